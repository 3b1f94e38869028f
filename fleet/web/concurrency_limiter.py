"""ASGI: the web process works on a few requests at once, and the others take concurrency_limiter.

Python works on one at a time anyhow; more threads than that make all of them late. A request is worked on when all of its body
has come, and no longer than until its answer begins to flow, so that nobody slow keeps a place. What would wait too long is
refused at once, with nothing done: 503, and when to come back.

What may take seconds of a processor has one place apart, and a line of its own: it keeps none of the others' places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.conf import settings

from fleet.web.bodies import Application, Refused

PATIENCE_S = 5.0  # that a request waits for its turn
AGAIN_S = 1  # after which a refused client may try again
COSTLY = {"/api/v1/missions", "/api/v1/plans/check"}  # and the pages on which templates are written: their POSTs alone
COSTLY_BELOW = "/admin/missions/template/"
EXEMPT = ("/healthz", "/readyz", "/flower/")  # probes must be answered by a busy process; Flower does its own work


class _Line:
    """So many at once, FLEET_WEB_WAITING wait, in the order in which they came."""

    def __init__(self, at_once: int, patience_s: float) -> None:
        self._places, self._patience_s = asyncio.Semaphore(at_once), patience_s
        self._waiting = 0

    async def enter(self) -> Callable[[], None]:
        """Returns when it is this request's turn; what it returns gives the place back, once."""
        if self._places.locked() and self._waiting >= settings.FLEET_WEB_WAITING:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await self._places.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self._places.release()

        return leave


class ConcurrencyLimiter:
    """FLEET_WEB_AT_ONCE at once, and one that is costly."""

    def __init__(self, application: Application, *, patience_s: float = PATIENCE_S) -> None:
        self._application, self._patience_s = application, patience_s
        self._usual: _Line | None = None
        self._costly: _Line | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].startswith(EXEMPT):
            return await self._application(scope, receive, send)
        leave: Callable[[], None] | None = None

        async def whole() -> Any:
            nonlocal leave
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body") and leave is None:
                leave = await self._line(scope).enter()
            return message

        async def begun(message: Any) -> None:
            if message["type"] == "http.response.body" and leave is not None:
                leave()
            await send(message)

        try:
            await self._application(scope, whole, begun)
        finally:
            if leave is not None:
                leave()

    def _line(self, scope: Any) -> _Line:
        """Made when the first request comes, as they belong to the loop that serves it."""
        path = scope["path"]
        if scope.get("method") == "POST" and (path in COSTLY or path.startswith(COSTLY_BELOW)):
            self._costly = self._costly or _Line(1, self._patience_s)
            return self._costly
        self._usual = self._usual or _Line(settings.FLEET_WEB_AT_ONCE, self._patience_s)
        return self._usual


def _busy() -> Refused:
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE, "busy", "The server is busy. Retry shortly.", {"retry-after": str(AGAIN_S)}
    )
