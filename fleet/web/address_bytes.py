"""Bounds the memory that the requests of one address take together, in all processes of the site."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fleet.limits import addresses
from fleet.web import shared_counters
from fleet.web.refusals import RequestRefused


class AddressBytes:
    """The bytes that one request takes in memory, which count together with those of its address's other requests."""

    def __init__(self, scope: Any, name: str, limit: int, refusal: str) -> None:
        """`name`: "bodies" or "responses". `refusal`: what to tell a client whose address exceeds the limit."""
        address = _address(scope)
        self._name, self._limit, self._bytes = f"{name}:{address}" if address else "", limit, 0
        self._code, self._refusal = f"too_many_{name}", refusal

    def add(self, size: int) -> None:
        """Count more bytes. Raises RequestRefused if the address then exceeds the limit."""
        if self._name:
            self._bytes += size
            shared_counters.site.add(self._name, size)
            if shared_counters.site.count(self._name) > self._limit:
                raise RequestRefused(
                    HTTPStatus.TOO_MANY_REQUESTS, self._code, self._refusal.format(self._limit), {"retry-after": "1"}
                )

    def release(self) -> None:
        if self._name:
            shared_counters.site.add(self._name, -self._bytes)


def _address(scope: Any) -> str:
    """The address by which the bytes are counted; "" for a proxy that does not name its clients."""
    peer = (scope.get("client") or ("", 0))[0]
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
    address = addresses.resolve(peer=peer, forwarded=",".join(lines))
    return "" if addresses.is_proxy(address) else addresses.bucket(address)
