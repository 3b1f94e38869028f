"""Retention removes checkpoints beside captures and restores, and never a file that a remaining checkpoint needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from checkpoints import operations
from checkpoints.models import Checkpoint
from missions.engine.process.runtime import Engine
from tests.support import fleet
from tests.support.checkpoints import DIAMOND, digest, saved_digest

pytestmark = [pytest.mark.django_db(transaction=True, serialized_rollback=True), pytest.mark.timeout(300)]

TIMES = 15


def repeat(operation: Callable[[], object], ending: threading.Event) -> int:
    """Repeat an operation until `ending` is set; returns how often it ran."""
    try:
        number = 0
        while not ending.is_set():
            operation()
            number += 1
        return number
    finally:
        connection.close()


@contextmanager
def pruning() -> Iterator[None]:
    """Remove every checkpoint that may be removed, again and again."""

    def prune() -> None:
        operations.prune(now=timezone.now() + timedelta(days=settings.FLEET_CHECKPOINT_DAYS + 1), dry_run=False)

    ending = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        pruned = thread.submit(repeat, prune, ending)
        try:
            yield
        finally:
            ending.set()
        assert pruned.result() > 1


def test_captures_beside_prune_are_intact(engine: Engine) -> None:
    missions = [fleet.launch(DIAMOND) for _ in range(3)]
    with pruning():
        for number in range(TIMES):
            mission = missions[number % 3]
            engine.run_slot()
            operations.capture(missions=[mission.id], keep=number % 5 == 0)
    assert Checkpoint.objects.filter(keep=True).count() == TIMES / 5
    assert Checkpoint.objects.count() < TIMES
    assert operations.verify(checkpoints=Checkpoint.objects.all()) == []


def test_restores_beside_prune_are_exact(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    start = operations.capture(missions=[mission.id], keep=True)
    fleet.run_to_end(engine, mission)
    end = operations.capture(missions=[mission.id], keep=True)
    with pruning():
        for _ in range(TIMES // 2):
            for checkpoint in (start, end):
                operations.restore(checkpoint=checkpoint, can_execute=True)
                assert digest(mission) == saved_digest(checkpoint)
    assert operations.verify(checkpoints=Checkpoint.objects.all()) == []
