"""Transient errors are retried with growing pauses; all other errors are raised at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import psycopg
import pytest
from django import db

from fleet.postgres import retries


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Records the pauses, without waiting."""
    delays: list[float] = []
    monkeypatch.setattr(time, "sleep", delays.append)
    return delays


def failing(*failures: Exception) -> Callable[[], str]:
    """A query that raises these errors, one per call, and then succeeds."""
    remaining = list(failures)

    def query() -> str:
        if remaining:
            raise remaining.pop(0)
        return "answer"

    return query


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the connection is lost"),
        psycopg.InterfaceError("the connection is closed"),
        psycopg.errors.DeadlockDetected(),
        psycopg.errors.SerializationFailure(),
        psycopg.errors.AdminShutdown(),
        db.OperationalError("the connection is lost"),
        db.InterfaceError("the connection is closed"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_a_query_is_retried_after_a_transient_error(error: Exception, pauses: list[float]) -> None:
    failures: list[tuple[Exception, int]] = []
    assert retries.retry(failing(error, error), on_failure=lambda *each: failures.append(each)) == "answer"
    assert failures == [(error, 1), (error, 2)]
    assert len(pauses) == 2


@pytest.mark.parametrize("error", [psycopg.errors.UniqueViolation(), db.ProgrammingError(), ValueError()])
def test_any_other_error_is_raised_at_once(error: Exception, pauses: list[float]) -> None:
    with pytest.raises(type(error)):
        retries.retry(failing(error), on_failure=lambda *_: None)
    assert not pauses


def test_the_pauses_grow_up_to_a_limit(pauses: list[float]) -> None:
    retries.retry(failing(*[psycopg.OperationalError()] * 6), on_failure=lambda *_: None)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_the_error_is_raised_when_the_caller_stops(pauses: list[float]) -> None:
    stops = iter([False, True])
    with pytest.raises(psycopg.OperationalError, match="second"):
        retries.retry(
            failing(psycopg.OperationalError("first"), psycopg.OperationalError("second")),
            on_failure=lambda *_: None,
            stop=lambda: next(stops),
        )
    assert len(pauses) == 1


def test_the_error_is_raised_once_the_timeout_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(psycopg.OperationalError):
        retries.retry(failing(*[psycopg.OperationalError()] * 100), on_failure=lambda *_: None, timeout_s=10)
    assert 10 < now < 12


def test_an_event_loop_retries_any_error_of_the_database_with_the_same_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    failures: list[int] = []
    query = failing(psycopg.OperationalError(), db.InterfaceError(), *[db.ProgrammingError()] * 3)

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def answer() -> str:
        return query()

    monkeypatch.setattr(asyncio, "sleep", pause)
    counted = retries.retry_async(answer, on_failure=lambda _, count: failures.append(count))
    assert asyncio.run(counted) == "answer"
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0]
    assert failures == [1, 2, 3, 4, 5]


def test_an_event_loop_raises_the_error_when_the_caller_stops() -> None:
    query = failing(psycopg.OperationalError())

    async def answer() -> str:
        return query()

    with pytest.raises(psycopg.OperationalError):
        asyncio.run(retries.retry_async(answer, on_failure=lambda *_: None, stop=lambda: True))
