"""The first middleware: the id, the caller, the client's address and the scheme of each request."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from fleet import caller, ids
from fleet.caller import Caller, acting_as
from fleet.limits import addresses

REQUEST = "req"
_REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_PERMISSIONS = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


@sync_and_async_middleware
def request_context(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Set the caller of the request, anonymous until `caller.identify`, and respond with `X-Request-ID`.

    A streamed response is sent after this, without a caller: keep `caller.current()` if you need it. Django logs
    responses later too, and finds the caller in `request.fleet_caller` (fleet.observability.logs).
    """

    def synchronous(request: HttpRequest) -> HttpResponseBase:
        with acting_as(initial := _initial_caller(request)):
            response: HttpResponseBase = get_response(request)
            request.fleet_caller = caller.current()  # type: ignore[attr-defined]
        return _with_headers(response, initial)

    async def asynchronous(request: HttpRequest) -> HttpResponseBase:
        with acting_as(initial := _initial_caller(request)):
            response: HttpResponseBase = await get_response(request)
            request.fleet_caller = caller.current()  # type: ignore[attr-defined]
        return _with_headers(response, initial)

    middleware: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    middleware = asynchronous if iscoroutinefunction(get_response) else synchronous
    return middleware


def _initial_caller(request: HttpRequest) -> Caller:
    """The caller before authentication. X-Forwarded-Proto from an untrusted peer is removed here, before Django reads
    it (SECURE_PROXY_SSL_HEADER)."""
    if not addresses.is_proxy(request.META.get("REMOTE_ADDR") or ""):
        request.META.pop("HTTP_X_FORWARDED_PROTO", None)
    sent_id = request.META.get("HTTP_X_REQUEST_ID", "")
    id = sent_id if _REQUEST_ID.fullmatch(sent_id) else ids.encode(REQUEST, ids.new())
    return Caller(name="anonymous", address=addresses.client(request), request=id)


def _with_headers(response: HttpResponseBase, initial: Caller) -> HttpResponseBase:
    response.headers["X-Request-ID"] = initial.request
    response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    return response
