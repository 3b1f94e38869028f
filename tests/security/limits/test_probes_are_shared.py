"""Anyone may ask whether the site is ready, any number of times at once, so requests share the connections and checks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.signals import request_started
from django.db import connection
from django.test import Client

from fleet.monitoring import health
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

REQUESTS = 12


@pytest.fixture
def check() -> Iterator[threading.Event]:
    """A further check, which waits for this event. `calls` counts how often it was made."""
    release = threading.Event()

    def wait() -> str:
        calls.append(threading.get_ident())
        release.wait(60)
        return "It is not."

    health.register("test", error="It raised.", check=wait)
    yield release
    del health._registered["test"]
    calls.clear()


calls: list[int] = []


def check_readiness() -> tuple[int, str]:
    try:
        response = Client().get("/readyz")
        return response.status_code, response.json()["checks"]["test"]["why"]
    finally:
        connection.close()


def test_requests_at_the_same_time_share_one_check(check: threading.Event) -> None:
    arrived: list[object] = []

    def arrive(**_: object) -> None:
        arrived.append(None)

    request_started.connect(arrive)
    try:
        with ThreadPoolExecutor(REQUESTS) as threads:
            responses = [threads.submit(check_readiness) for _ in range(REQUESTS)]
            until(lambda: len(arrived) == REQUESTS and calls)
            check.set()
            assert {response.result(60) for response in responses} == {(503, "It is not.")}
    finally:
        request_started.disconnect(arrive)
    assert len(calls) < REQUESTS


def test_a_later_request_is_checked_anew(check: threading.Event) -> None:
    check.set()
    assert [check_readiness(), check_readiness()] == [(503, "It is not.")] * 2
    assert len(calls) == 2
