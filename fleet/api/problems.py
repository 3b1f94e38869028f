"""Errors as problem details (RFC 9457): `{type, title, status, detail, code}` as application/problem+json."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from fleet import errors


def handle(fault: Exception, context: dict[str, Any]) -> Response | None:
    """The answer to an exception; None for a surprise, which Django logs and answers with a plain 500."""
    if isinstance(fault, errors.FleetError):
        response = Response(status=fault.status)
        code, detail = fault.code, str(fault)
    else:
        told = exception_handler(fault, context)  # also keeps the headers: WWW-Authenticate, Retry-After
        if told is None:
            return None
        response = told
        code, detail = _told(fault)
    response.data = {
        "type": "about:blank",
        "title": HTTPStatus(response.status_code).phrase,
        "status": response.status_code,
        "detail": detail,
        "code": code,
    }
    response.content_type = "application/problem+json"
    return response


def _told(fault: Exception) -> tuple[str, str]:
    if isinstance(fault, exceptions.APIException):
        code = fault.get_codes()
        return (code if isinstance(code, str) else fault.default_code), _text(fault.detail)
    if isinstance(fault, Http404):
        return "not_found", str(fault)
    return "forbidden", str(fault)  # PermissionDenied: DRF's handler knows no other


def _text(detail: Any) -> str:
    return "; ".join(map(str, detail)) if isinstance(detail, list) else str(detail)
