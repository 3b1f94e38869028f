"""Refusals of requests outside Django: of what it has not read yet, or of its response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fleet import errors, ids


class RequestRefused(Exception):
    """The request is refused with a problem response (RFC 9457)."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.status, self.code, self.detail, self.headers = status, code, detail, headers
        super().__init__(detail)


def problem(refusal: RequestRefused) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of a problem response (RFC 9457), which closes the connection."""
    request = ids.encode("req", ids.new())
    members = errors.problem(status=refusal.status, code=refusal.code, detail=refusal.detail, request=request)
    body = json.dumps(members).encode()
    headers = [
        (b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"), (b"x-request-id", request.encode()), (b"cache-control", b"private, no-store"),
        *((name.encode(), value.encode()) for name, value in refusal.headers.items()),
    ]  # fmt: skip
    return headers, body


async def respond(refusal: RequestRefused, send: Any) -> None:
    headers, body = problem(refusal)
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
