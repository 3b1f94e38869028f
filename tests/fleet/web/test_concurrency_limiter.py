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

CONCURRENT, WAITING = 2, 3


class BlockingApplication:
    """An application whose requests wait until the test releases them. Each responds with two chunks."""

    def __init__(self) -> None:
        self.admitted: list[str] = []
        self.respond, self.finish = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.admitted.append(scope["path"])
        await self.respond.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await self.finish.wait()
        await send({"type": "http.response.body", "body": b"two"})


@pytest.fixture(autouse=True)
def limits(settings: Settings) -> None:
    settings.FLEET_WEB_CONCURRENCY, settings.FLEET_WEB_QUEUE = CONCURRENT, WAITING


def run(scenario: Callable[[BlockingApplication, Any], Awaitable[None]], *, patience_s: float = 5) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            application = BlockingApplication()
            await scenario(application, BodyLimiter(ConcurrencyLimiter(application, timeout_s=patience_s)))

    asyncio.run(main())


async def request(limiter: Any, path: str, *, body: asyncio.Event | None = None) -> tuple[int, dict[str, str], bytes]:
    """The response. With `body`, the second half of the body is sent when this event is set."""
    items: list[Any] = []
    chunks = [{"type": "http.request", "body": b"", "more_body": False}]
    if body is not None:
        chunks.insert(0, {"type": "http.request", "body": b"half", "more_body": True})

    async def receive() -> Any:
        if body is not None and len(chunks) == 1:
            await body.wait()
        return chunks.pop(0)

    async def send(message: Any) -> None:
        items.append(message)

    await limiter({"type": "http", "path": path, "headers": []}, receive, send)
    headers = {name.decode(): value.decode() for name, value in items[0]["headers"]}
    return items[0]["status"], headers, b"".join(item.get("body", b"") for item in items)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_further_requests_queue_in_order() -> None:
    async def scenario(application: BlockingApplication, limiter: Any) -> None:
        application.finish.set()
        async with asyncio.TaskGroup() as group:
            responses = [group.create_task(request(limiter, f"/{n}")) for n in range(CONCURRENT + WAITING)]
            await settle()
            assert application.admitted == ["/0", "/1"]
            application.respond.set()
        assert application.admitted == [f"/{n}" for n in range(CONCURRENT + WAITING)]
        assert {task.result()[::2] for task in responses} == {(200, b"onetwo")}

    run(scenario)


def test_a_request_beyond_the_queue_is_refused_with_retry_after() -> None:
    async def scenario(application: BlockingApplication, limiter: Any) -> None:
        application.finish.set()
        async with asyncio.TaskGroup() as group:
            for n in range(CONCURRENT + WAITING):
                group.create_task(request(limiter, f"/{n}"))
            await settle()
            status, headers, body = await request(limiter, "/more")
            assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "busy")
            application.respond.set()
        assert "/more" not in application.admitted
        assert (await request(limiter, "/again"))[0] == 200

    run(scenario)


def test_a_request_that_waits_too_long_is_refused_without_effect() -> None:

    async def scenario(application: BlockingApplication, limiter: Any) -> None:
        application.finish.set()
        async with asyncio.TaskGroup() as group:
            for n in range(CONCURRENT):
                group.create_task(request(limiter, f"/{n}"))
            await settle()
            assert (await request(limiter, "/late"))[0] == 503
            application.respond.set()
        assert application.admitted == ["/0", "/1"]

    run(scenario, patience_s=0.05)


def test_slow_bodies_and_slow_readers_occupy_no_place() -> None:
    async def scenario(application: BlockingApplication, limiter: Any) -> None:
        rest_of_body = asyncio.Event()
        application.respond.set()
        async with asyncio.TaskGroup() as group:
            for n in range(CONCURRENT):
                group.create_task(request(limiter, f"/sends/{n}", body=rest_of_body))
                group.create_task(request(limiter, f"/takes/{n}"))
            await settle()
            group.create_task(request(limiter, "/other"))
            await settle()
            assert application.admitted == ["/takes/0", "/takes/1", "/other"]
            rest_of_body.set()
            application.finish.set()

    run(scenario)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/flower/workers"])
def test_probes_are_answered_whatever_is_queued(path: str) -> None:
    async def scenario(application: BlockingApplication, limiter: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(CONCURRENT + WAITING):
                group.create_task(request(limiter, f"/{n}"))
            await settle()
            group.create_task(request(limiter, path))
            await settle()
            assert application.admitted == ["/0", "/1", path]
            application.respond.set()
            application.finish.set()

    run(scenario)


def test_a_response_that_cannot_start_yet_occupies_no_slot() -> None:
    """The client may not have read the response before it on the same connection."""

    async def scenario(application: BlockingApplication, limiter: Any) -> None:
        application.respond.set()
        application.finish.set()
        stuck = asyncio.Event()

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            await stuck.wait()

        scope = {"type": "http", "method": "GET", "path": "/stuck", "headers": [], "client": ("192.0.2.1", 1)}
        tasks = [asyncio.create_task(limiter(scope, receive, send)) for _ in range(CONCURRENT)]
        assert (await request(limiter, "/other"))[0] == 200
        stuck.set()
        await asyncio.gather(*tasks)

    run(scenario)
