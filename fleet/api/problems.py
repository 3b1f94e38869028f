"""Errors as problem details (RFC 9457), as application/problem+json:

    {type, title, status, detail, code, request_id, errors: [{pointer, code, detail}]}

`errors` is there where a body or a query is not valid; `pointer` is a JSON pointer (RFC 6901) into the body, or the name of
a parameter behind `?`.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from fleet import caller, errors
from fleet.services import outages

MOST = 50  # faults in one answer
RETRY_S = 5  # until what does not answer is asked again


def handle(fault: Exception, context: dict[str, Any]) -> Response | None:
    """The answer to an exception; None for a surprise, which Django logs and answers with a plain 500."""
    faults: list[dict[str, Any]] = []
    if isinstance(fault, OperationalError | InterfaceError):
        fault = outages.without_postgres(fault)
    if isinstance(fault, errors.FleetError):
        response = Response(status=fault.status, headers={**_authenticate(fault, context), **_later(fault)})
        code, detail = fault.code, f"{fault.message} {fault.over_http}".strip()
        faults = [one.as_problem() for one in getattr(fault, "faults", ())][:MOST]
        if isinstance(fault, errors.Invalid) and fault.status == errors.Invalid.status and not faults:
            faults = [{"pointer": fault.pointer, "code": code, "detail": detail}]
    elif isinstance(fault, exceptions.ValidationError):
        response = Response(status=errors.Invalid.status)
        faults = list(_faults(fault.get_full_details(), ""))[:MOST]
        code = errors.Invalid.code
        detail = " ".join(f"{one['pointer'].lstrip('/') or 'The body'}: {one['detail']}" for one in faults[:3])
    else:
        told = exception_handler(fault, context)  # also keeps the headers: WWW-Authenticate, Retry-After
        if told is None:
            return None
        response = told
        code, detail = _told(fault, context)
    response.data = body(status=response.status_code, code=code, detail=detail, faults=faults)
    response.content_type = "application/problem+json"
    return response


def body(*, status: int, code: str, detail: str, faults: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The problem itself."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _whole(detail[:2_000]),
        "code": code,
        "request_id": caller.current().request,
        **({"errors": [{name: _whole(said) for name, said in one.items()} for one in faults]} if faults else {}),
    }


def _whole(said: Any) -> Any:
    """What a client sent may be repeated in a fault, and half a character (a lone surrogate) cannot be written as UTF-8."""
    return said.encode("utf-8", "backslashreplace").decode() if isinstance(said, str) else said


def _authenticate(fault: errors.FleetError, context: dict[str, Any]) -> dict[str, str]:
    """A 401 says how to sign in (RFC 9110, section 11.6.1)."""
    view = context.get("view")
    if fault.status != HTTPStatus.UNAUTHORIZED or view is None:
        return {}
    return {"WWW-Authenticate": view.get_authenticate_header(context["request"]) or "Bearer"}


def _later(fault: errors.FleetError) -> dict[str, str]:
    """Where the limits of requests know it to the second, the view's own headers say it (fleet.limits.counting)."""
    later = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    return {"Retry-After": str(RETRY_S)} if fault.status in later else {}


def _faults(details: Any, pointer: str) -> Iterator[dict[str, Any]]:
    if isinstance(details, dict) and details.keys() == {"message", "code"}:
        yield {"pointer": pointer, "code": str(details["code"]), "detail": str(details["message"])}
    elif isinstance(details, dict):
        for name, inner in details.items():
            step = "" if name == "non_field_errors" else f"/{str(name).replace('~', '~0').replace('/', '~1')}"
            yield from _faults(inner, pointer + step)
    elif isinstance(details, list):
        for number, inner in enumerate(details):
            single = isinstance(inner, dict) and inner.keys() == {"message", "code"}
            yield from _faults(inner, pointer if single else f"{pointer}/{number}")


def _told(fault: Exception, context: dict[str, Any]) -> tuple[str, str]:
    if isinstance(fault, exceptions.APIException):
        code = fault.get_codes()
        said = _advice(fault, context) or _text(fault.detail)
        return (code if isinstance(code, str) else fault.default_code), said
    if isinstance(fault, Http404):
        return "not_found", str(fault)
    return "forbidden", str(fault)  # PermissionDenied: DRF's handler knows no other


def _advice(fault: exceptions.APIException, context: dict[str, Any]) -> str:
    """What the framework's own refusals come to, and what to do next."""
    match fault:
        case exceptions.NotAuthenticated():
            return (
                "You are not signed in. Send `Authorization: Bearer …` with a token from POST /api/v1/auth/token, "
                "or a machine key."
            )
        case exceptions.NotAcceptable():
            return "The response is JSON, which `Accept` excludes. Send `Accept: application/json`."
        case exceptions.UnsupportedMediaType():
            return f"{_text(fault.detail)} Send JSON, and `Content-Type: application/json`."
        case exceptions.MethodNotAllowed() if methods := context["view"].allowed_methods:
            known = " or ".join(name for name in methods if name != "HEAD")
            return f"{context['request'].method} is not allowed here. Use {known}."
    return ""


def _text(detail: Any) -> str:
    return "; ".join(map(str, detail)) if isinstance(detail, list) else str(detail)
