"""Handlers for errors outside of any view: a problem (RFC 9457) below /api/, Django's own page elsewhere."""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from fleet.api import problems

PREFIX = "/api/"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: an unknown Host, an undecodable path, or more than a thousand parameters."""
    if _is_api(request):
        return _problem(
            HTTPStatus.BAD_REQUEST,
            "bad_request",
            "The request is malformed. Check its Host header, path and parameters.",
        )
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return _problem(HTTPStatus.NOT_FOUND, "not_found", f"There is no {request.path}. The API is under /api/v1/.")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """500: an unexpected exception. Django has logged it with this request's id."""
    if _is_api(request):
        return _problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error. See the log of the web process.",
        )
    return defaults.server_error(request)


def _is_api(request: HttpRequest) -> bool:
    return f"{request.path}/".startswith(PREFIX)


def _problem(status: HTTPStatus, code: str, detail: str) -> HttpResponse:
    return JsonResponse(
        problems.body(status=status, code=code, detail=detail),
        status=status,
        content_type="application/problem+json",
        headers={"Cache-Control": "private, no-store"},
    )
