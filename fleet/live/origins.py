"""Which pages may open a WebSocket. Browsers send cookies for pages of any origin, without a CORS check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

Headers = Mapping[bytes, bytes]


def headers_of(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers of an ASGI scope, by their names in lowercase."""
    return {name.lower(): value for name, value in pairs}


def is_allowed_host(headers: Headers) -> bool:
    """Whether the Host header names one of ALLOWED_HOSTS."""
    name, _ = split_domain_port(headers.get(b"host", b"").decode("latin-1"))
    return bool(name) and validate_host(name, settings.ALLOWED_HOSTS)


def is_same_origin(headers: Headers) -> bool:
    """Whether the request comes from a page of this site (same host and port), or not from a page at all.

    With FLEET_HTTPS, a page loaded over http may be forged by whoever controls the network.
    """
    origin = headers.get(b"origin")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin.decode("latin-1"))
    except ValueError:
        return False
    schemes = {"https"} if settings.FLEET_HTTPS else {"http", "https"}
    return parts.scheme in schemes and parts.netloc.lower().encode() == headers.get(b"host", b"").lower()


def is_allowed_origin(headers: Headers) -> bool:
    """Whether the request comes from a page of FLEET_CORS_ORIGINS. Such pages need tokens; cookies are ignored."""
    return headers.get(b"origin", b"").decode("latin-1") in settings.CORS_ALLOWED_ORIGINS
