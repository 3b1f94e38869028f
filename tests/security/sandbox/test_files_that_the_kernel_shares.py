"""Root's workloads cannot change files of /dev and /proc that the kernel shares with all processes of the host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.confinement import bubblewrap
from tests.support.work.driver_runs import DriverRun, brief

pytestmark = pytest.mark.skipif(not bubblewrap.is_root_of_host(), reason="only the host's root owns these files")

SHARED = (
    *(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom", "tty")),
    Path("/proc/consoles"),
)


def mode_and_owner(path: Path) -> tuple[int, int]:
    return path.stat().st_mode & 0o7777, path.stat().st_uid


@pytest.fixture
def modes() -> Iterator[dict[Path, tuple[int, int]]]:
    """The mode and the owner of each file. Those that the test changes are restored."""
    before = {path: mode_and_owner(path) for path in SHARED}
    yield before
    for path, (mode, owner) in before.items():
        if mode_and_owner(path) != (mode, owner):
            path.chmod(mode)
            os.chown(path, owner, -1)


def test_their_mode_owner_and_times_stay(tmp_path: Path, modes: dict[Path, tuple[int, int]]) -> None:
    code = f"""
import os
for path in {list(map(str, SHARED))}:
    for change in (lambda: os.chmod(path, 0o600), lambda: os.chown(path, 33, -1), lambda: os.utime(path, (1, 1))):
        try:
            change()
            print("changed", path)
        except OSError as error:
            assert error.errno in (1, 30), (path, error)
"""
    run = DriverRun("command", brief(tmp_path, argv=("python3", "-c", code)))
    assert run.end().ok
    assert "changed" not in run.reporter.out
    assert {path: mode_and_owner(path) for path in SHARED} == modes


def test_devices_can_be_read_and_written(tmp_path: Path) -> None:
    shell = 'echo x > /dev/null && test "$(head -c 3 /dev/zero | wc -c)" = 3 && head -c 1 /dev/urandom > byte'
    evidence = DriverRun("command", brief(tmp_path, shell=shell)).end()
    assert evidence.ok, evidence
