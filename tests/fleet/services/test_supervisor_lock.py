"""A home has one supervisor at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fleet.services.supervision import lock
from tests.fleet.services.supervisor_harness import SupervisorHarness, new_service


def test_only_one_supervisor_runs_per_home(tmp_path: Path) -> None:
    first, second = SupervisorHarness(tmp_path, new_service("base")), SupervisorHarness(tmp_path, new_service("base"))

    async def another() -> None:
        with pytest.raises(lock.AlreadyRunning, match="is already running"):
            await second.supervisor.run()

    assert first.run(another) == 0
    assert second.output == []


def test_the_lock_of_a_supervisor_can_be_checked_on_a_read_only_disk(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path)
    with lock.hold(harness.home):
        pass
    check = (
        "from pathlib import Path; from fleet.config.home import Home; from fleet.services.supervision import lock; "
        f"print(lock.is_held(Home(Path({str(tmp_path)!r}))))"
    )
    read_only = (
        f'mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path} && exec {sys.executable} -c "$0"'
    )
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", read_only, check], capture_output=True, text=True, check=False
    )
    if "unshare" in result.stderr:
        pytest.skip("this host refuses user namespaces")
    assert result.stdout == "False\n", result.stderr
