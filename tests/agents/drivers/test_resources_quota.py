"""What an attempt has written is counted as the disk counts it, and in slices where there is much of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from agents.drivers.base import Limits, StopReason
from agents.drivers.quota import Quota

MB = 1_000_000


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def looked(one: Quota, *, times: int = 1) -> StopReason | None:
    """What so many looks, each when it is due, come to."""
    for _ in range(times):
        time.sleep(max(0.0, one.next_at - time.monotonic()))
        if passed := one.check():
            return passed
    return None


def test_what_the_fleet_wrote_before_and_what_links_name_counts_for_nothing(tmp_path: Path) -> None:
    scratch, elsewhere = tmp_path / "scratch", tmp_path / "elsewhere"
    write(scratch / ".fleet" / "inputs.json", 5 * MB)
    write(elsewhere / "large", 50 * MB)
    one = Quota(Limits(disk_bytes=3 * MB), scratch=scratch)
    (scratch / "folder").symlink_to(elsewhere)
    (scratch / "file").symlink_to(elsewhere / "large")
    write(scratch / "deep" / "er" / "file", 2 * MB)
    for number in range(5):
        os.link(scratch / "deep" / "er" / "file", scratch / f"again{number}")
    with (scratch / "sparse").open("wb") as sparse:
        sparse.truncate(900 * MB)
    assert not one.left_too_much()
    write(scratch / "deep" / "more", 2 * MB)
    assert one.left_too_much()
    assert 3 * MB < one.used < 5 * MB


def test_many_files_are_looked_at_in_slices(tmp_path: Path) -> None:
    one = Quota(Limits(disk_bytes=4 * MB), scratch=tmp_path, slice_s=0.0)
    for number in range(1_500):
        write(tmp_path / f"{number % 7}" / f"{number}", 4_096)
    assert looked(one) is None, "one slice is not all"
    assert looked(one, times=20) is StopReason.DISK
    assert one.used > 4 * MB


def test_what_vanishes_while_it_is_counted_does_no_harm(tmp_path: Path) -> None:
    one = Quota(Limits(disk_bytes=MB), scratch=tmp_path / "gone")
    assert looked(one) is None
    assert not one.left_too_much()
    assert Quota(Limits(), scratch=tmp_path).next_at == float("inf"), "without limits nothing is looked at"
