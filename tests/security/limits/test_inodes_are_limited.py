"""Empty files use no blocks of a disk, but an inode each. Without inodes, no file can be created."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.confinement.attempt_limits import Limits, StopReason
from agents.confinement.quota import Quota
from tests.support.work.driver_runs import DriverRun, brief
from tests.support.work.quotas import first_exceeded

MANY = "import os\nfor number in range({count}): os.mknod(f'{folder}/{{number}}')\n{then}"


def test_work_that_creates_too_many_empty_files_is_stopped(tmp_path: Path) -> None:
    script = MANY.format(folder=tmp_path, count=5_000, then="import time; time.sleep(60)")
    limits = Limits(timeout_s=50, grace_s=0.5, disk_bytes=10_000_000)
    evidence = DriverRun("command", brief(tmp_path, argv=("python3", "-c", script), limits=limits)).end()
    assert not evidence.ok
    assert evidence.stopped is StopReason.DISK, evidence


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with 40,000 inodes that is otherwise almost empty."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500m,nr_inodes=40000", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(folder: Path, numbers: range) -> None:
    for number in numbers:
        os.mknod(folder / str(number))


def test_work_is_stopped_before_a_disk_has_no_inodes_left_also_in_the_folder_of_its_mission(
    disk: Path, tmp_path: Path
) -> None:
    quota = Quota(Limits(reserve_bytes=1_000), scratch=tmp_path, folders=(disk,))
    assert quota.check() is None
    fill(disk, range(37_000))
    assert first_exceeded(quota) is None
    fill(disk, range(37_000, 39_000))
    assert first_exceeded(quota) is StopReason.DISK_FULL
    later = Quota(Limits(reserve_bytes=1_000), scratch=tmp_path, folders=(disk,))
    assert first_exceeded(later) is None, "this attempt has used none of the inodes"
