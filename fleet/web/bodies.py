"""ASGI middleware that refuses bodies that are too large or too slow while they arrive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from django.conf import settings

from fleet import humanise, ids

Application = Callable[[Any, Any, Any], Awaitable[None]]

TIMEOUT_S = 30.0  # for a whole body


class RequestRefused(Exception):
    """The request is refused before Django has read it."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.status, self.code, self.detail, self.headers = status, code, detail, headers
        super().__init__(detail)


class BodyLimiter:
    """Refuses bodies of more than `max_bytes` (413) or slower than `timeout_s` (408), with a problem (RFC 9457).

    `max_bytes`: DATA_UPLOAD_MAX_MEMORY_SIZE by default.
    """

    def __init__(self, application: Application, *, max_bytes: int | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._application, self._timeout_s = application, timeout_s
        self._max_bytes = settings.DATA_UPLOAD_MAX_MEMORY_SIZE if max_bytes is None else max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        started = False

        async def observe(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check_headers(scope)
            await self._application(scope, self._limit(receive), observe)
        except RequestRefused as refusal:
            if started:  # cannot happen: Django reads the whole body before it responds
                raise
            await _refuse(refusal, send)
        return None

    def _check_headers(self, scope: Any) -> None:
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

    def _limit(self, receive: Any) -> Any:
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
            complete = not message.get("more_body", False)
            return message

        return limited

    def _too_large(self) -> RequestRefused:
        return RequestRefused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"The body is larger than {self._max_bytes:,} bytes."
        )


def problem(refusal: RequestRefused) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of a problem response (RFC 9457), which closes the connection."""
    request = ids.encode("req", ids.new())
    body = json.dumps(
        {
            "type": "about:blank", "title": refusal.status.phrase, "status": refusal.status,
            "detail": refusal.detail, "code": refusal.code, "request_id": request,
        }
    ).encode()  # fmt: skip
    headers = [
        (b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"), (b"x-request-id", request.encode()), (b"cache-control", b"private, no-store"),
        *((name.encode(), value.encode()) for name, value in refusal.headers.items()),
    ]  # fmt: skip
    return headers, body


async def _refuse(refusal: RequestRefused, send: Any) -> None:
    headers, body = problem(refusal)
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
