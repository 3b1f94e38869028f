"""The web process runs a few requests at once; the others queue, and are refused if they would wait too long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pytest_django import Settings

from fleet.web.bodies import BodyLimiter
from fleet.web.concurrency_limiter import ConcurrencyLimiter

AT_ONCE, WAITING = 2, 3


class Work:
    """An application whose requests wait until the test releases them. Each responds with two chunks."""

    def __init__(self) -> None:
        self.now: list[str] = []
        self.go, self.end = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.now.append(scope["path"])
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await self.end.wait()
        await send({"type": "http.response.body", "body": b"two"})


@pytest.fixture(autouse=True)
def few(settings: Settings) -> None:
    settings.FLEET_WEB_CONCURRENCY, settings.FLEET_WEB_QUEUE = AT_ONCE, WAITING


def run(what: Callable[[Work, Any], Awaitable[None]], *, patience_s: float = 5) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            work = Work()
            await what(work, BodyLimiter(ConcurrencyLimiter(work, timeout_s=patience_s)))

    asyncio.run(main())


async def ask(application: Any, path: str, *, body: asyncio.Event | None = None) -> tuple[int, dict[str, str], bytes]:
    """The response. With `body`, the second half of the body is sent when this event is set."""
    items: list[Any] = []
    pieces = [{"type": "http.request", "body": b"", "more_body": False}]
    if body is not None:
        pieces.insert(0, {"type": "http.request", "body": b"half", "more_body": True})

    async def receive() -> Any:
        if body is not None and len(pieces) == 1:
            await body.wait()
        return pieces.pop(0)

    async def send(message: Any) -> None:
        items.append(message)

    await application({"type": "http", "path": path, "headers": []}, receive, send)
    headers = {name.decode(): value.decode() for name, value in items[0]["headers"]}
    return items[0]["status"], headers, b"".join(item.get("body", b"") for item in items)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_further_requests_queue_in_order() -> None:
    async def what(work: Work, application: Any) -> None:
        work.end.set()
        async with asyncio.TaskGroup() as group:
            responses = [group.create_task(ask(application, f"/{n}")) for n in range(AT_ONCE + WAITING)]
            await settle()
            assert work.now == ["/0", "/1"]
            work.go.set()
        assert work.now == [f"/{n}" for n in range(AT_ONCE + WAITING)]
        assert {task.result()[::2] for task in responses} == {(200, b"onetwo")}

    run(what)


def test_a_request_beyond_the_queue_is_refused_with_retry_after() -> None:
    async def what(work: Work, application: Any) -> None:
        work.end.set()
        async with asyncio.TaskGroup() as group:
            for n in range(AT_ONCE + WAITING):
                group.create_task(ask(application, f"/{n}"))
            await settle()
            status, headers, body = await ask(application, "/more")
            assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "busy")
            work.go.set()
        assert "/more" not in work.now
        assert (await ask(application, "/again"))[0] == 200

    run(what)


def test_a_request_that_waits_too_long_is_refused_without_effect() -> None:

    async def what(work: Work, application: Any) -> None:
        work.end.set()
        async with asyncio.TaskGroup() as group:
            for n in range(AT_ONCE):
                group.create_task(ask(application, f"/{n}"))
            await settle()
            assert (await ask(application, "/late"))[0] == 503
            work.go.set()
        assert work.now == ["/0", "/1"]

    run(what, patience_s=0.05)


def test_slow_bodies_and_slow_readers_occupy_no_place() -> None:
    async def what(work: Work, application: Any) -> None:
        whole = asyncio.Event()
        work.go.set()
        async with asyncio.TaskGroup() as group:
            for n in range(AT_ONCE):
                group.create_task(ask(application, f"/sends/{n}", body=whole))
                group.create_task(ask(application, f"/takes/{n}"))
            await settle()
            group.create_task(ask(application, "/other"))
            await settle()
            assert work.now == ["/takes/0", "/takes/1", "/other"]
            whole.set()
            work.end.set()

    run(what)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/flower/workers"])
def test_probes_are_answered_whatever_is_queued(path: str) -> None:
    async def what(work: Work, application: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(AT_ONCE + WAITING):
                group.create_task(ask(application, f"/{n}"))
            await settle()
            group.create_task(ask(application, path))
            await settle()
            assert work.now == ["/0", "/1", path]
            work.go.set()
            work.end.set()

    run(what)
