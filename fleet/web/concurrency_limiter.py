"""ASGI middleware that runs a few requests at once and queues the others.

Python runs one thread at a time anyway, so more threads would only make all requests slower. A request takes a slot
when its whole body has arrived, and frees it when its response is ready to send, so that slow clients hold no slots. A
request that would wait too long is refused with a 503 and Retry-After, before any work is done.

Requests that may take seconds of CPU time have a separate slot and queue, so they never occupy the other slots.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.conf import settings

from fleet.web.bodies import Application
from fleet.web.refusals import RequestRefused

TIMEOUT_S = 5.0  # for a slot
RETRY_S = 1  # Retry-After of a refused request
# Method and path: launches, plans, everything that reads a whole checkpoint, and what runs git.
COSTLY = re.compile(
    r"POST /api/v1/(missions|plans/check|checkpoints(/[^/]+/\w+)?)"
    r"|(GET|HEAD) /api/v1/checkpoints/[^/]+/(plan|diff)"
    r"|DELETE /api/v1/checkpoints/[^/]+"
    r"|(GET|HEAD) /api/v1/((missions|sorties)/[^/]+/diff|sorties/[^/]+/repository.bundle)"
    r"|POST /api/v1/(missions/[^/]+/(merge|discard)|sorties/[^/]+/resolve)"
    r"|POST /api/v1/schedules(/[^/]+/(run|resume))?|PATCH /api/v1/schedules/[^/]+"
    r"|POST /admin/(missions/(template|schedule)|checkpoints/checkpoint)/.*"
    r"|GET /admin/checkpoints/checkpoint/[^/]+/.*"
)
EXEMPT = ("/healthz", "/readyz", "/flower/")  # probes must work in a busy process; Flower is another process


class _Queue:
    """A number of slots, with a first-in-first-out queue of at most FLEET_WEB_QUEUE requests."""

    def __init__(self, slots: int, timeout_s: float) -> None:
        self._slots, self._timeout_s = asyncio.Semaphore(slots), timeout_s
        self._waiting = 0

    async def enter(self) -> Callable[[], None]:
        """Wait for a slot. Returns a function that frees it; calling it again has no effect."""
        if self._slots.locked() and self._waiting >= settings.FLEET_WEB_QUEUE:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1
        occupied = True

        def leave() -> None:
            nonlocal occupied
            if occupied:
                occupied = False
                self._slots.release()

        return leave


class ConcurrencyLimiter:
    """Runs FLEET_WEB_CONCURRENCY requests at once, plus one costly request."""

    def __init__(self, application: Application, *, timeout_s: float = TIMEOUT_S) -> None:
        self._application, self._timeout_s = application, timeout_s
        self._normal: _Queue | None = None
        self._costly: _Queue | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].startswith(EXEMPT):
            return await self._application(scope, receive, send)
        leave: Callable[[], None] | None = None

        async def receive_then_wait() -> Any:
            nonlocal leave
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body") and leave is None:
                leave = await self._queue(scope).enter()
            return message

        async def leave_then_send(message: Any) -> None:
            if leave is not None:
                leave()  # before the response starts: the client may not have read the one before it
            await send(message)

        try:
            await self._application(scope, receive_then_wait, leave_then_send)
        finally:
            if leave is not None:
                leave()

    def _queue(self, scope: Any) -> _Queue:
        """The queue of a request. Queues are created lazily, because they belong to the running event loop."""
        if COSTLY.fullmatch(f"{scope.get('method')} {scope['path']}"):
            self._costly = self._costly or _Queue(1, self._timeout_s)
            return self._costly
        self._normal = self._normal or _Queue(settings.FLEET_WEB_CONCURRENCY, self._timeout_s)
        return self._normal


def _busy() -> RequestRefused:
    return RequestRefused(
        HTTPStatus.SERVICE_UNAVAILABLE, "busy", "The server is busy. Retry shortly.", {"retry-after": str(RETRY_S)}
    )
