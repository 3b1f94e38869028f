"""The first middleware: which request this is, who sends it from where, and by which scheme."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from fleet import caller, ids
from fleet.caller import Caller, acting
from fleet.limits import addresses

REQUEST = "req"
_PLAIN = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_PERMISSIONS = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


@sync_and_async_middleware
def identified(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Gives the request its id, says who acts until it is known better (`caller.identify`), and answers `X-Request-ID`.

    A streamed body is read after this, when nobody acts any more: keep `caller.current()` where that matters. So does what
    Django logs of the answer, which finds it in `request.fleet_caller` (fleet.logs).
    """

    def sync(request: HttpRequest) -> HttpResponseBase:
        with acting(arrived := _arrived(request)):
            response: HttpResponseBase = get_response(request)
            request.fleet_caller = caller.current()  # type: ignore[attr-defined]
        return _answered(response, arrived)

    async def awaited(request: HttpRequest) -> HttpResponseBase:
        with acting(arrived := _arrived(request)):
            response: HttpResponseBase = await get_response(request)
            request.fleet_caller = caller.current()  # type: ignore[attr-defined]
        return _answered(response, arrived)

    chosen: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    chosen = awaited if iscoroutinefunction(get_response) else sync
    return chosen


def _arrived(request: HttpRequest) -> Caller:
    """Who sends it, as far as one knows. A scheme that does not come from a proxy of ours is forgotten here, before Django
    reads it (SECURE_PROXY_SSL_HEADER)."""
    if not addresses.is_proxy(request.META.get("REMOTE_ADDR") or ""):
        request.META.pop("HTTP_X_FORWARDED_PROTO", None)
    given = request.META.get("HTTP_X_REQUEST_ID", "")
    id = given if _PLAIN.fullmatch(given) else ids.encode(REQUEST, ids.new())
    return Caller(name="anonymous", address=addresses.client(request), request=id)


def _answered(response: HttpResponseBase, arrived: Caller) -> HttpResponseBase:
    response.headers["X-Request-ID"] = arrived.request
    response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    return response
