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
pieces = Counter[str]()


def leaves(request: HttpRequest) -> HttpResponse:
    """A faulty view that begins a transaction and does not end it."""
    transaction.atomic().__enter__()
    return HttpResponse(threading.current_thread().name)


def asks(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse(threading.current_thread().name)


def meets(request: HttpRequest) -> HttpResponse:
    """Responds once MANY requests have arrived."""
    meeting.wait(60)
    return HttpResponse()


def waits(request: HttpRequest) -> HttpResponse:
    released.wait(60)
    return HttpResponse()


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(request.GET["name"]).open("rb"))


def flows(request: HttpRequest) -> StreamingHttpResponse:
    async def content() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more"
                await asyncio.sleep(0)
        finally:
            pieces["ended"] += 1

    return StreamingHttpResponse(content())


def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("somebody's fault")


urlpatterns = [path(view.__name__, view) for view in (leaves, asks, meets, waits, file, flows, fails, healthz)]  # type: ignore[arg-type]


class Site:
    """The handler, called without a server."""

    def __init__(self) -> None:
        self.handler = Handler()

    async def ask(self, name: str, query: str = "", *, gone_after: int | None = None) -> tuple[int, list[bytes]]:
        """The status and the chunks of the response. The client disconnects after `gone_after` chunks."""
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
            if len(items) - 1 == gone_after:
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
        status, leftovers = await site.ask("leaves")
        assert status == 200
        async with asyncio.timeout(60):
            while True:  # another thread may get the next request
                status, by = await site.ask("asks")
                assert status == 200
                if by == leftovers:
                    return

    asyncio.run(main())


def test_the_number_of_concurrent_requests_is_limited(settings: Settings) -> None:
    settings.FLEET_WEB_CONCURRENCY = MANY

    async def main() -> set[int]:
        site = Site()
        return {status for status, _ in await asyncio.gather(*(site.ask("meets") for _ in range(MANY)))}

    assert asyncio.run(main()) == {200}


@pytest.mark.filterwarnings("error")
def test_a_file_is_sent_in_large_pieces_without_warnings(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(200_000))
    _, found = asyncio.run(Site().ask("file", f"name={tmp_path / 'large'}"))
    assert [len(piece) for piece in found] == [65_536, 65_536, 65_536, 3_392]


@pytest.mark.parametrize(
    ("name", "gone_after"), [("asks", None), ("fails", None), ("not-there", None), ("%ff", None), ("flows", 3)]
)
@pytest.mark.django_db(transaction=True)
def test_each_request_starts_and_finishes_once_even_if_its_client_is_gone(name: str, gone_after: int | None) -> None:
    result = Counter[str]()

    def hear(what: str) -> Callable[..., None]:
        return lambda **_: result.update([what])

    starts, ends = hear("begun"), hear("ended")
    request_started.connect(starts)
    request_finished.connect(ends)
    before = pieces["ended"]
    try:
        asyncio.run(Site().ask(name, gone_after=gone_after))
    finally:
        request_started.disconnect(starts)
        request_finished.disconnect(ends)
    assert result == {"begun": 1, "ended": 1}
    assert pieces["ended"] - before == (gone_after is not None)


def test_the_health_check_answers_while_all_threads_are_busy(settings: Settings) -> None:
    settings.FLEET_WEB_CONCURRENCY = 1

    async def main() -> int:
        site = Site()
        waiting = [asyncio.create_task(site.ask("waits")) for _ in range(1 + EXEMPT_THREADS + 1)]
        await asyncio.sleep(0)  # until the threads have taken them
        try:
            status, _ = await site.ask("healthz")
            assert not any(task.done() for task in waiting)
        finally:
            released.set()
        assert {status for status, _ in await asyncio.gather(*waiting)} == {200}
        return status

    assert asyncio.run(main()) == 200
