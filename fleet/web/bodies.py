"""ASGI middleware that refuses bodies that are too large or too slow while they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from django.conf import settings

from fleet import humanise
from fleet.web import refusals
from fleet.web.address_bytes import AddressBytes
from fleet.web.refusals import RequestRefused

Application = Callable[[Any, Any, Any], Awaitable[None]]

TIMEOUT_S = 30.0  # for a whole body
ADDRESS_BYTES = 64_000_000  # of the bodies that one address has in progress, in all processes of the site


class BodyLimiter:
    """Refuses bodies of more than `max_bytes` (413) or slower than `timeout_s` (408), with a problem (RFC 9457).

    `max_bytes`: DATA_UPLOAD_MAX_MEMORY_SIZE by default. Bodies are read before clients are authenticated, so an address
    may have at most `address_bytes` of them in progress (429), from the first byte to the response.
    """

    def __init__(
        self,
        application: Application,
        *,
        max_bytes: int | None = None,
        timeout_s: float = TIMEOUT_S,
        address_bytes: int = ADDRESS_BYTES,
    ) -> None:
        self._application, self._timeout_s, self._address_bytes = application, timeout_s, address_bytes
        self._max_bytes = settings.DATA_UPLOAD_MAX_MEMORY_SIZE if max_bytes is None else max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        started = False
        body_bytes = AddressBytes(
            scope, "bodies", self._address_bytes, "Your address is sending more than {:,} bytes at once."
        )

        async def observe(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check_headers(scope)
            await self._application(scope, self._limit(receive, body_bytes), observe)
        except RequestRefused as refusal:
            if started:  # cannot happen: Django reads the whole body before it responds
                raise
            await refusals.respond(refusal, send)
        finally:
            body_bytes.release()
        return None

    def _check_headers(self, scope: Any) -> None:
        if not scope["path"].startswith("/"):  # the redirect to https appends the path to the host
            raise RequestRefused(HTTPStatus.BAD_REQUEST, "bad_request", "The target of the request must be a path.")
        headers = {name.lower(): value for name, value in scope["headers"]}
        if b"transfer-encoding" in headers and b"content-length" in headers:  # RFC 9112, 6.1: request smuggling
            raise RequestRefused(
                HTTPStatus.BAD_REQUEST,
                "bad_request",
                "Both Content-Length and Transfer-Encoding are set. Send only one of them.",
            )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._max_bytes:
            raise self._too_large()

    def _limit(self, receive: Any, body_bytes: AddressBytes) -> Any:
        length, complete = 0, False
        deadline = asyncio.get_running_loop().time() + self._timeout_s

        async def limited() -> Any:
            nonlocal length, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RequestRefused(
                    HTTPStatus.REQUEST_TIMEOUT,
                    "too_slow",
                    f"The body did not arrive within {humanise.duration(self._timeout_s)}.",
                ) from None
            length += len(message.get("body", b""))
            if length > self._max_bytes:
                raise self._too_large()
            body_bytes.add(len(message.get("body", b"")))
            complete = not message.get("more_body", False)
            return message

        return limited

    def _too_large(self) -> RequestRefused:
        return RequestRefused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"The body is larger than {self._max_bytes:,} bytes."
        )
