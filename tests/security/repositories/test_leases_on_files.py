"""A workload can take a lease on a file (fcntl(2)), so that others cannot open it for up to 45 s, again and again."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.shim import beneath, outbox
from missions.workspaces.repositories import local_repositories
from tests.support import repository


@pytest.fixture
def lease() -> Iterator[list[int]]:
    """Descriptors that are closed at the end. The signal that asks for the lease is ignored."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    descriptors: list[int] = []
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)
    signal.signal(signal.SIGIO, before)


def take(path: Path, descriptors: list[int]) -> None:
    descriptors.append(os.open(path, os.O_RDWR))
    fcntl.fcntl(descriptors[-1], fcntl.F_SETLEASE, fcntl.F_WRLCK)


def test_a_file_with_a_lease_is_not_opened(tmp_path: Path, lease: list[int]) -> None:
    (tmp_path / "file").write_text("x")
    take(tmp_path / "file", lease)
    folder = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    lease.append(folder)
    with pytest.raises(BlockingIOError):
        beneath.open_plain(folder, "file")


def test_an_output_with_a_lease_is_not_copied(tmp_path: Path, lease: list[int]) -> None:
    for name in ("folder", "outbox"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder" / "report").write_text("x")
    take(tmp_path / "folder" / "report", lease)
    target = os.open(tmp_path / "outbox", os.O_RDONLY | os.O_DIRECTORY)
    lease.append(target)
    copied = outbox.copy(
        ["report"],
        folders=[str(tmp_path / "folder")],
        outbox=target,
        max_bytes=100,
        max_total_bytes=0,
        must_stop=lambda: False,
    )
    assert copied == [errno.EAGAIN]


def test_a_repository_whose_files_have_leases_is_refused(tmp_path: Path, lease: list[int]) -> None:
    project = repository.create(tmp_path / "project", {"app.py": "one\n"})
    alternates = project.path / ".git" / "objects" / "info" / "alternates"
    alternates.write_text("\n")
    take(alternates, lease)
    with pytest.raises(local_repositories.RepositoryRefused, match="alternates"):
        local_repositories.find(str(project.path))
