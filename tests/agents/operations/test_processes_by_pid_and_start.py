"""A process is identified by its pid and the time at which it started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.host import processes

READY = "import signal, sys, time; {}; print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def start_time(pid: int) -> float:
    moment = processes.start_time_of(pid)
    assert moment is not None
    return moment


def test_the_start_is_counted_from_the_boot_of_the_host(child: subprocess.Popen[bytes]) -> None:
    assert abs(time.clock_gettime(time.CLOCK_BOOTTIME) - start_time(child.pid)) < 5
    assert start_time(child.pid) == start_time(child.pid)
    assert start_time(os.getpid()) < start_time(child.pid)


def test_a_name_with_spaces_and_brackets_changes_nothing(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        assert abs(time.clock_gettime(time.CLOCK_BOOTTIME) - start_time(process.pid)) < 5
        process.kill()


def test_a_zombie_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    start = start_time(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.is_alive(pid=child.pid, start_time=start)


@pytest.mark.parametrize("off_s", [-0.01, 0.01, 600.0])
def test_a_process_with_another_start_is_never_signalled(child: subprocess.Popen[bytes], off_s: float) -> None:
    start = start_time(child.pid) + off_s
    assert not processes.is_alive(pid=child.pid, start_time=start)
    processes.end([(child.pid, start)], within_s=0.1)
    assert child.poll() is None


def test_a_process_that_ignores_sigterm_is_killed(child: subprocess.Popen[bytes]) -> None:
    deaf = READY.format("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        processes.end([(item.pid, start_time(item.pid)) for item in (child, stubborn)], within_s=0.3)
        assert (child.wait(), stubborn.wait()) == (-signal.SIGTERM, -signal.SIGKILL)


def test_a_process_that_has_ended_already_is_no_error() -> None:
    processes.end([], within_s=1)
    with subprocess.Popen(["true"]) as process:
        process.wait()
        processes.end([(process.pid, 1.0)], within_s=1)
        assert not processes.is_alive(pid=None, start_time=1.0)
