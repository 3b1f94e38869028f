"""A reader of the event stream sees every event, in whatever order transactions commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection, connections, transaction

from fleet.events import stream
from fleet.events.models import Event
from fleet.postgres.commit_order import Position
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def in_a_thread(function: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        function()
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def take_a_number() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()")


def test_an_event_that_commits_late_is_not_skipped() -> None:
    has_written, may_end = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            Event.objects.create(kind="late")
            has_written.set()
            may_end.wait(60)

    thread = in_a_thread(slow)
    assert has_written.wait(60)
    Event.objects.create(kind="early")
    assert not stream.since(last=Position()).filter(kind="early").exists()
    may_end.set()
    thread.join(60)
    until(lambda: [event.kind for event in stream.since(last=Position())] == ["late", "early"])


def test_an_event_is_not_skipped_because_an_older_transaction_has_a_larger_id() -> None:
    """The first transaction has the smaller number and writes last. The second one writes first and commits last."""
    numbered, has_snapshot, may_end = (threading.Event() for _ in range(3))

    def older() -> None:
        with transaction.atomic():
            take_a_number()
            numbered.set()
            has_snapshot.wait(60)
            Event.objects.create(kind="second")

    def younger() -> None:
        numbered.wait(60)
        with transaction.atomic():
            Event.objects.create(kind="first")
            has_snapshot.set()
            may_end.wait(60)

    first, second = in_a_thread(older), in_a_thread(younger)
    first.join(60)
    kinds: list[str] = []
    last = Position()
    for patience_s in (5, 2):  # a correct stream may deliver nothing in the first round
        deadline = time.monotonic() + patience_s
        while len(kinds) < 2 and time.monotonic() < deadline:
            for event in stream.since(last=last):
                kinds.append(event.kind)
                last = Position.of(event)
            if kinds and not may_end.is_set():
                break
            time.sleep(0.02)
        may_end.set()
        second.join(60)
    assert sorted(kinds) == ["first", "second"]
