"""The quota counts what an attempt wrote by its size on disk, and walks large folders in slices."""

from __future__ import annotations

import os
from pathlib import Path

from agents.confinement.attempt_limits import Limits, StopReason
from agents.confinement.quota import Quota
from tests.support.work.quotas import first_exceeded

MB = 1_000_000


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def used_at_end(quota: Quota) -> int:
    quota.check_at_end()
    return quota.used


def test_earlier_files_of_the_fleet_and_targets_of_links_do_not_count(tmp_path: Path) -> None:
    scratch, elsewhere = tmp_path / "scratch", tmp_path / "elsewhere"
    write(scratch / ".fleet" / "inputs.json", 5 * MB)
    write(elsewhere / "large", 50 * MB)
    quota = Quota(Limits(disk_bytes=3 * MB), scratch=scratch)
    (scratch / "folder").symlink_to(elsewhere)
    (scratch / "file").symlink_to(elsewhere / "large")
    write(scratch / "deep" / "er" / "file", 2 * MB)
    for number in range(5):
        os.link(scratch / "deep" / "er" / "file", scratch / f"again{number}")
    with (scratch / "sparse").open("wb") as sparse:
        sparse.truncate(900 * MB)
    assert used_at_end(quota) == 0
    write(scratch / "deep" / "more", 2 * MB)
    assert 3 * MB < used_at_end(quota) < 5 * MB


def test_many_files_are_counted_in_slices(tmp_path: Path) -> None:
    quota = Quota(Limits(disk_bytes=4 * MB), scratch=tmp_path, slice_s=0.0)
    for number in range(1_500):
        write(tmp_path / f"{number % 7}" / f"{number}", 4_096)
    assert first_exceeded(quota) is None, "one slice is not enough"
    assert first_exceeded(quota, times=20) is StopReason.DISK
    assert quota.used > 4 * MB


def test_a_folder_that_vanishes_does_no_harm(tmp_path: Path) -> None:
    quota = Quota(Limits(disk_bytes=MB), scratch=tmp_path / "gone")
    assert first_exceeded(quota) is None
    assert used_at_end(quota) == 0
    assert Quota(Limits(), scratch=tmp_path).next_at == float("inf"), "without limits nothing is checked"
