"""ASGI: bodies that are too large or too slow are refused while they arrive, before anybody keeps or waits for them."""

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

PATIENCE_S = 30.0  # from the first to the last byte of a body


class Refused(Exception):
    """What is sent will not be read."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.status, self.code, self.detail, self.headers = status, code, detail, headers
        super().__init__(detail)


class Bounded:
    """`most` bytes (DATA_UPLOAD_MAX_MEMORY_SIZE where it is not given) in `patience_s`: 413 and 408, as RFC 9457 has it."""

    def __init__(self, application: Application, *, most: int | None = None, patience_s: float = PATIENCE_S) -> None:
        self._application, self._patience_s = application, patience_s
        self._most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE if most is None else most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        started = False

        async def answer(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._declared(scope)
            await self._application(scope, self._bounded(receive), answer)
        except Refused as refusal:
            if started:  # Django reads all of a body before it answers
                raise
            await _refuse(refusal, send)
        return None

    def _declared(self, scope: Any) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if b"transfer-encoding" in headers and b"content-length" in headers:  # RFC 9112, 6.1: request smuggling
            raise Refused(
                HTTPStatus.BAD_REQUEST, "bad_request", "It tells its length twice: by Content-Length and by chunks."
            )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._most:
            raise self._too_large()

    def _bounded(self, receive: Any) -> Any:
        length, over = 0, False
        until = asyncio.get_running_loop().time() + self._patience_s

        async def bounded() -> Any:
            nonlocal length, over
            if over:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise Refused(
                    HTTPStatus.REQUEST_TIMEOUT,
                    "too_slow",
                    f"The body did not arrive within {humanise.duration(self._patience_s)}.",
                ) from None
            length += len(message.get("body", b""))
            if length > self._most:
                raise self._too_large()
            over = not message.get("more_body", False)
            return message

        return bounded

    def _too_large(self) -> Refused:
        return Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"The body is larger than {self._most:,} bytes."
        )


def problem(refusal: Refused) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of the answer, as RFC 9457 has it; the connection ends with it."""
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


async def _refuse(refusal: Refused, send: Any) -> None:
    headers, body = problem(refusal)
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
