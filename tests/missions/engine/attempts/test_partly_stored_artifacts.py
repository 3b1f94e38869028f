"""A partly stored artifact of a killed agent is removed once nobody can still be writing it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile

from missions.artifacts import collection, storage
from tests.support.console import manage
from tests.support.paths import CHECKOUT
from tests.support.waiting import until

pytestmark = [  # the whole run has one folder of drafts
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.xdist_group("drafts"),
]

KILLED = """
import io, os, signal, sys, django
django.setup()
from django.core.files import File
from missions.artifacts import collection

class Slow(io.BytesIO):
    def read(self, size=-1):
        if self.tell():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(size)

collection.storage().save("ab/abcd", File(Slow(b"x" * 200_000)))
"""


@pytest.fixture
def partial_file(subprocess_environment: dict[str, str]) -> Path:
    """The partial file of a process that was killed while writing it."""
    before = drafts()
    environment = {**subprocess_environment, "DJANGO_SETTINGS_MODULE": "fleet.settings"}
    result = subprocess.run([sys.executable, "-c", KILLED], env=environment, cwd=CHECKOUT, timeout=60)
    assert result.returncode == -9
    (draft,) = drafts() - before
    assert not (settings.FLEET_HOME.artifacts / "ab" / "abcd").exists()
    return draft


def drafts() -> set[Path]:
    folder = settings.FLEET_HOME.artifacts / "drafts"
    return set(folder.iterdir()) if folder.exists() else set()


def age(file: Path, seconds: float) -> None:
    modified_at = file.stat().st_mtime - seconds
    os.utime(file, (modified_at, modified_at))


def by_hand() -> None:
    assert manage("fleet_cleanup", "--json").json["drafts"] == 1
    assert manage("fleet_cleanup", "--yes", "--json").json["drafts"] == 1


def by_the_store() -> None:
    assert collection.sweep() == 1


@pytest.mark.parametrize("sweep", [by_hand, by_the_store])
def test_a_partly_stored_artifact_is_removed_once_nobody_can_still_be_writing_it(
    partial_file: Path, sweep: Callable[[], None]
) -> None:
    assert collection.sweep() == 0
    assert partial_file.exists(), "its writer may still be alive"
    age(partial_file, storage.ABANDONED_S + 1)
    sweep()
    assert not partial_file.exists()


def test_an_agent_removes_it_at_its_start(partial_file: Path, subprocess_environment: dict[str, str]) -> None:
    age(partial_file, storage.ABANDONED_S + 1)
    command = [sys.executable, "-m", "celery", "-A", "fleet", "worker", "--pool", "threads", "--without-mingle"]
    environment = {**subprocess_environment, "FLEET_AGENT_TYPE": "backend"}
    worker = subprocess.Popen(
        [*command, "--queues", "agent.backend"], env=environment, cwd=CHECKOUT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: not partial_file.exists())
    finally:
        worker.terminate()
        worker.wait(30)


def test_complete_artifacts_are_kept() -> None:
    collection.storage().save("cd/cdef", ContentFile(b"whole"))
    whole = settings.FLEET_HOME.artifacts / "cd" / "cdef"
    age(whole, 10 * storage.ABANDONED_S)
    collection.sweep()
    assert whole.read_bytes() == b"whole"
