"""Errors as problem details (RFC 9457), as application/problem+json:

    {type, title, status, detail, code, request_id, errors: [{pointer, code, detail}]}

`errors` is present if a body or a query is not valid. `pointer` is a JSON pointer (RFC 6901) into the body, or / and
the name of a query parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from fleet import caller, errors
from fleet.postgres import retries
from fleet.services import outages

MAX_INPUT_ERRORS = 50  # in one response
RETRY_S = 5  # Retry-After of a 503


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to an exception; None for an unexpected one, which Django logs and turns into a 500."""
    input_errors: list[dict[str, Any]] = []
    if isinstance(error, retries.TRANSIENT):
        error = outages.postgres_unavailable(error)
    if isinstance(error, errors.FleetError):
        response = Response(status=error.status, headers={**_challenge(error, context), **_retry_after(error)})
        code, detail = error.code, f"{error.message} {error.over_http}".strip()
        input_errors = [entry.as_api_error() for entry in getattr(error, "problems", ())][:MAX_INPUT_ERRORS]
        if isinstance(error, errors.Invalid) and error.status == errors.Invalid.status and not input_errors:
            input_errors = [{"pointer": error.pointer, "code": code, "detail": detail}]
    elif isinstance(error, exceptions.ValidationError):
        response = Response(status=errors.Invalid.status)
        input_errors = list(_input_errors(error.get_full_details(), ""))[:MAX_INPUT_ERRORS]
        code = errors.Invalid.code
        detail = " ".join(
            f"{entry['pointer'].lstrip('/') or 'The body'}: {entry['detail']}" for entry in input_errors[:3]
        )
    else:
        handled = exception_handler(error, context)  # also sets WWW-Authenticate and Retry-After
        if handled is None:
            return None
        response = handled
        code, detail = _code_and_detail(error, context)
    response.data = body(status=response.status_code, code=code, detail=detail, input_errors=input_errors)
    response.content_type = "application/problem+json"
    return response


def body(*, status: int, code: str, detail: str, input_errors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The members of a problem."""
    return {
        **errors.problem(status=status, code=code, detail=_printable(detail[:2_000]), request=caller.current().request),
        **(
            {"errors": [{name: _printable(value) for name, value in entry.items()} for entry in input_errors]}
            if input_errors
            else {}
        ),
    }


def _printable(value: Any) -> Any:
    """Text with unpaired surrogates escaped: an error may quote what the client sent, and UTF-8 cannot encode them."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _challenge(error: errors.FleetError, context: dict[str, Any]) -> dict[str, str]:
    """The header of a 401 that says how to sign in (RFC 9110, section 11.6.1)."""
    view = context.get("view")
    if error.status != HTTPStatus.UNAUTHORIZED or view is None:
        return {}
    return {"WWW-Authenticate": view.get_authenticate_header(context["request"]) or "Bearer"}


def _retry_after(error: errors.FleetError) -> dict[str, str]:
    """The default Retry-After. After a rate limit, the view replaces it with the exact time (fleet.limits.counting)."""
    retryable = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    return {"Retry-After": str(RETRY_S)} if error.status in retryable else {}


def _input_errors(details: Any, pointer: str) -> Iterator[dict[str, Any]]:
    if isinstance(details, dict) and details.keys() == {"message", "code"}:
        yield {"pointer": pointer, "code": str(details["code"]), "detail": str(details["message"])}
    elif isinstance(details, dict):
        for name, inner in details.items():
            step = "" if name == "non_field_errors" else f"/{str(name).replace('~', '~0').replace('/', '~1')}"
            yield from _input_errors(inner, pointer + step)
    elif isinstance(details, list):
        for number, inner in enumerate(details):
            single = isinstance(inner, dict) and inner.keys() == {"message", "code"}
            yield from _input_errors(inner, pointer if single else f"{pointer}/{number}")


def _code_and_detail(error: Exception, context: dict[str, Any]) -> tuple[str, str]:
    if isinstance(error, exceptions.APIException):
        code = error.get_codes()
        detail = _advice(error, context) or _text(error.detail)
        return (code if isinstance(code, str) else error.default_code), detail
    if isinstance(error, Http404):
        return "not_found", str(error)
    return "forbidden", str(error)  # PermissionDenied, the only other exception that DRF handles


def _advice(error: exceptions.APIException, context: dict[str, Any]) -> str:
    """A clearer message for an error of the framework, with what to do next; empty to keep its own."""
    match error:
        case exceptions.NotAuthenticated():
            return (
                "You are not signed in. Send `Authorization: Bearer …` with a token from POST /api/v1/auth/token, "
                "or a machine key."
            )
        case exceptions.NotAcceptable():
            return "The response is JSON, which `Accept` excludes. Send `Accept: application/json`."
        case exceptions.UnsupportedMediaType():
            return f"{_text(error.detail)} Send JSON, and `Content-Type: application/json`."
        case exceptions.MethodNotAllowed() if methods := context["view"].allowed_methods:
            allowed = " or ".join(name for name in methods if name != "HEAD")
            return f"{context['request'].method} is not allowed here. Use {allowed}."
    return ""


def _text(detail: Any) -> str:
    return "; ".join(map(str, detail)) if isinstance(detail, list) else str(detail)
