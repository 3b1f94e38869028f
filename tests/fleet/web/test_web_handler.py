"""One thread handles a whole request, and nothing of a request reaches the next one."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import connection, transaction
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from pytest_django import Settings

from fleet.monitoring.health import healthz
from fleet.web.handler import EXEMPT_THREADS, Handler

pytestmark = pytest.mark.urls(__name__)

MANY = 100
meeting = threading.Barrier(MANY)
released = threading.Event()
counts = Counter[str]()


def open_transaction(request: HttpRequest) -> HttpResponse:
    """A faulty view that begins a transaction and does not end it."""
    transaction.atomic().__enter__()
    return HttpResponse(threading.current_thread().name)


def query_thread(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse(threading.current_thread().name)


def meet(request: HttpRequest) -> HttpResponse:
    """Responds once MANY requests have arrived."""
    meeting.wait(60)
    return HttpResponse()


def wait(request: HttpRequest) -> HttpResponse:
    released.wait(60)
    return HttpResponse()


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(request.GET["name"]).open("rb"))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def content() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more"
                await asyncio.sleep(0)
        finally:
            counts["ended streams"] += 1

    return StreamingHttpResponse(content())


def fail(request: HttpRequest) -> HttpResponse:
    raise ValueError("somebody's fault")


urlpatterns = [
    path(view.__name__, view) for view in (open_transaction, query_thread, meet, wait, file, stream, fail, healthz)
]


class Site:
    """The handler, called without a server."""

    def __init__(self) -> None:
        self.handler = Handler()

    async def request(
        self, name: str, query: str = "", *, disconnect_after: int | None = None
    ) -> tuple[int, list[bytes]]:
        """The status and the chunks of the response. The client disconnects after `disconnect_after` chunks."""
        items: list[Any] = []
        is_requested, disconnected = False, asyncio.Event()

        async def receive() -> Any:
            nonlocal is_requested
            if is_requested:
                await disconnected.wait()
                return {"type": "http.disconnect"}
            is_requested = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            items.append(message)
            if len(items) - 1 == disconnect_after:
                disconnected.set()

        scope = {
            "type": "http", "method": "GET", "path": f"/{name}", "query_string": query.encode(), "client": ("127.0.0.1", 1),
            "headers": [(b"host", b"127.0.0.1")], "scheme": "http", "server": ("127.0.0.1", 80),
        }  # fmt: skip
        await self.handler(scope, receive, send)
        return items[0]["status"], [item["body"] for item in items[1:] if item.get("body")]


@pytest.mark.django_db(transaction=True)
def test_a_transaction_left_open_does_not_reach_the_next_request() -> None:
    async def main() -> None:
        site = Site()
        status, first_thread = await site.request("open_transaction")
        assert status == 200
        async with asyncio.timeout(60):
            while True:  # another thread may get the next request
                status, thread = await site.request("query_thread")
                assert status == 200
                if thread == first_thread:
                    return

    asyncio.run(main())


def test_the_number_of_concurrent_requests_is_limited(settings: Settings) -> None:
    settings.FLEET_WEB_CONCURRENCY = MANY

    async def main() -> set[int]:
        site = Site()
        return {status for status, _ in await asyncio.gather(*(site.request("meet") for _ in range(MANY)))}

    assert asyncio.run(main()) == {200}


@pytest.mark.filterwarnings("error")
def test_a_file_is_sent_in_large_pieces_without_warnings(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(200_000))
    _, found = asyncio.run(Site().request("file", f"name={tmp_path / 'large'}"))
    assert [len(piece) for piece in found] == [65_536, 65_536, 65_536, 3_392]


@pytest.mark.parametrize(
    ("name", "disconnect_after"),
    [("query_thread", None), ("fail", None), ("not-there", None), ("%ff", None), ("stream", 3)],
)
@pytest.mark.django_db(transaction=True)
def test_each_request_starts_and_finishes_once_even_if_its_client_is_gone(
    name: str, disconnect_after: int | None
) -> None:
    result = Counter[str]()

    def counter_of(name: str) -> Callable[..., None]:
        return lambda **_: result.update([name])

    starts, ends = counter_of("begun"), counter_of("ended")
    request_started.connect(starts)
    request_finished.connect(ends)
    before = counts["ended streams"]
    try:
        asyncio.run(Site().request(name, disconnect_after=disconnect_after))
    finally:
        request_started.disconnect(starts)
        request_finished.disconnect(ends)
    assert result == {"begun": 1, "ended": 1}
    assert counts["ended streams"] - before == (disconnect_after is not None)


def test_the_health_check_answers_while_all_threads_are_busy(settings: Settings) -> None:
    settings.FLEET_WEB_CONCURRENCY = 1

    async def main() -> int:
        site = Site()
        waiting = [asyncio.create_task(site.request("wait")) for _ in range(1 + EXEMPT_THREADS + 1)]
        await asyncio.sleep(0)  # until the threads have taken them
        try:
            status, _ = await site.request("healthz")
            assert not any(task.done() for task in waiting)
        finally:
            released.set()
        assert {status for status, _ in await asyncio.gather(*waiting)} == {200}
        return status

    assert asyncio.run(main()) == 200
