"""Reading a plan does not slow other requests: a separate process does it, with a share of time per user."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from django.core.cache import cache
from pytest_django import Settings

from fleet.api.checks import routes
from fleet.api.views import Costly
from fleet.web.concurrency_limiter import COSTLY, ConcurrencyLimiter
from missions.operations import plan_reading
from missions.plan import PlanContext, PlanError
from missions.plan.reader_process import PlanReader
from tests.support import api

CONTEXT = PlanContext(
    types=None, callables=[], drivers={"command"}, max_sorties=20_000, max_bytes=10_000_000, max_added=10, max_s=1
)
PLAN = json.dumps(api.PLAN)


@pytest.fixture
def reader() -> Iterator[PlanReader]:
    started_reader = PlanReader()
    yield started_reader
    started_reader.stop()


def test_the_reader_is_another_process_without_secrets(reader: PlanReader) -> None:
    assert reader.load(text=PLAN, context=CONTEXT)[0].name == api.PLAN["mission"]
    assert reader.pid is not None
    child = psutil.Process(reader.pid)
    assert child.ppid() == os.getpid()
    assert not [name for name in child.environ() if name.startswith(("FLEET", "DATABASE", "REDIS", "DJANGO"))]
    assert child.nice() > psutil.Process().nice()


def test_a_plan_of_thousands_of_sorties_is_returned_complete(reader: PlanReader) -> None:
    text = json.dumps({"mission": "x", "sorties": {f"s{n}": {"agent": "a", "run": "x"} for n in range(2_345)}})
    found, cost_s = reader.load(text=text, context=CONTEXT)
    assert [sortie.key for sortie in found.sorties] == [f"s{n}" for n in range(2_345)]
    assert cost_s > 0


def test_problems_are_returned_with_their_lines(reader: PlanReader) -> None:
    with pytest.raises(PlanError) as excinfo:
        reader.load(text="mission: x\nsorties:\n  a: {agent: b, run: x, nedes: []}\n", context=CONTEXT)
    assert [(problem.line, problem.where) for problem in excinfo.value.problems] == [(3, "sorties.a.nedes")]


def test_a_reader_that_hangs_is_killed_and_the_next_plan_is_read(
    reader: PlanReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.load(text=PLAN, context=CONTEXT)
    hung = reader.pid
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)
    with pytest.raises(PlanError, match="took longer than 1 s"):
        reader.load(text=PLAN, context=CONTEXT)
    assert not psutil.pid_exists(hung)
    assert reader.load(text=PLAN, context=CONTEXT)[0].name == api.PLAN["mission"]


def test_a_killed_reader_is_replaced(reader: PlanReader) -> None:
    reader.load(text=PLAN, context=CONTEXT)
    assert reader.pid is not None
    os.kill(reader.pid, signal.SIGKILL)
    assert reader.load(text=PLAN, context=CONTEXT)[0].name == api.PLAN["mission"]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_reads_are_answered_while_a_plan_is_being_read() -> None:
    ann = api.person("ann", can_execute=True)
    assert ann.post("plans/check", {"plan": api.PLAN}).status_code == 200
    assert plan_reading.reader.pid is not None
    os.kill(plan_reading.reader.pid, signal.SIGSTOP)  # a plan that takes several seconds
    responses: list[Any] = []
    checking = threading.Thread(target=lambda: responses.append(ann.post("plans/check", {"plan": api.PLAN})))
    checking.start()
    try:
        for _ in range(20):
            assert ann.get("missions").status_code == 200
        assert checking.is_alive()
    finally:
        os.kill(plan_reading.reader.pid, signal.SIGCONT)
        checking.join(60)
    assert [response.status_code for response in responses] == [200]


def test_costly_requests_do_not_occupy_the_slots_of_others(settings: Settings) -> None:
    settings.FLEET_WEB_CONCURRENCY, settings.FLEET_WEB_QUEUE = 1, 8

    async def main() -> None:
        working: list[str] = []
        release = asyncio.Event()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            working.append(scope["path"])
            await release.wait()

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None: ...

        turns = ConcurrencyLimiter(application)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for path in ("/api/v1/plans/check", "/api/v1/missions", "/api/v1/me"):
                scope = {"type": "http", "path": path, "method": "GET" if path.endswith("me") else "POST"}
                group.create_task(turns(scope, receive, send))
            for _ in range(20):
                await asyncio.sleep(0)
            assert working == ["/api/v1/plans/check", "/api/v1/me"]
            release.set()
        assert working == ["/api/v1/plans/check", "/api/v1/me", "/api/v1/missions"]

    asyncio.run(main())


def test_exactly_the_costly_requests_use_the_separate_queue() -> None:
    costly = []
    for address, view in routes():
        for method in ("GET", "HEAD", "POST", "PATCH", "DELETE"):
            path = "/" + re.sub(r"<str:\w+>", "x", address)
            found = COSTLY.fullmatch(f"{method} {path}") is not None
            if view is not None and hasattr(view, "get" if method == "HEAD" else method.lower()):
                assert found == (issubclass(view, Costly) and method in view.costly_methods), (method, path)
                costly += [path] if found else []
    assert {"/api/v1/missions", "/api/v1/plans/check", "/api/v1/checkpoints/x/plan"} < set(costly)


@pytest.mark.django_db
def test_a_user_who_has_used_up_their_share_gets_the_time_to_retry(settings: Settings) -> None:
    cache.clear()
    settings.FLEET_LIMIT_COST_S = 0.001
    ann, bob = api.person("ann"), api.person("bob")
    key = api.machine(ann.user, "launch")
    assert ann.post("plans/check", {"plan": api.PLAN}).status_code == 200
    for client in (ann, key):  # the share is counted by user, whatever the credential
        response = client.post("plans/check", {"plan": api.PLAN})
        assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
        assert 0 < int(response.headers["Retry-After"]) <= 60
    assert ann.get("missions").status_code == 200
    assert bob.post("plans/check", {"plan": api.PLAN}).status_code == 200
    cache.clear()
