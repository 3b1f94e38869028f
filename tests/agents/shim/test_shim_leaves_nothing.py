"""Whatever the work does to stay alive, none of its processes is left when its attempt is over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from agents.confinement.attempt_limits import Limits, StopReason
from agents.drivers import reaper
from agents.shim import tree
from tests.support.paths import CHECKOUT
from tests.support.waiting import until
from tests.support.work.driver_runs import DriverRun, brief, surviving_processes

# Forks twice, with a session of its own and an empty environment; writes its pid; ignores SIGTERM and SIGHUP.
DAEMON = """
(setsid env -i /bin/sh -c '
  trap "" TERM HUP
  (trap "" TERM HUP; echo $$ > "$0.sh"; sh -c "echo \\$PPID" > "$0.tmp"; mv "$0.tmp" "$0"; while :; do sleep 1; done) &
' "{pid}" >/dev/null 2>&1 </dev/null &) ; while [ ! -s "{pid}" ]; do sleep 0.02; done
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "daemon.pid"
    yield path
    for pid in _pids(path):
        os.kill(pid, signal.SIGKILL)


def _alive(path: Path) -> bool:
    return bool(_pids(path))


def _pids(path: Path) -> list[int]:
    """The daemon's processes, by their command line, because the pid that it writes belongs to its own namespace."""
    pids = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(path) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                pids.append(process.pid)
    return pids


def test_a_daemon_with_an_empty_environment_ends_with_the_work(daemon: Path, tmp_path: Path) -> None:
    attempt = brief(tmp_path, shell=DAEMON.format(pid=daemon), limits=Limits(timeout_s=30, grace_s=0.3))
    assert DriverRun("command", attempt).end().ok
    assert not _alive(daemon)


def test_a_daemon_with_an_empty_environment_ends_with_a_stop(daemon: Path, tmp_path: Path) -> None:
    shell = DAEMON.format(pid=daemon) + "sleep 600"
    run = DriverRun("command", brief(tmp_path, shell=shell, limits=Limits(grace_s=0.3)))
    until(daemon.exists)
    run.stop.set(StopReason.CANCELLED)
    assert run.end().stopped is StopReason.CANCELLED
    assert not _alive(daemon)
    assert not surviving_processes(run.brief)


def test_work_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    stubborn = f"trap '' TERM INT HUP; touch {tmp_path}/ready; while :; do sleep 0.1; done"
    run = DriverRun("command", brief(tmp_path, shell=stubborn, limits=Limits(grace_s=0.5)))
    until((tmp_path / "ready").exists)
    start = time.monotonic()
    run.stop.set(StopReason.CANCELLED)
    evidence = run.end()
    assert time.monotonic() - start > 0.4
    assert (evidence.stopped, evidence.signal) == (StopReason.CANCELLED, 9)
    assert not surviving_processes(run.brief)


def test_work_that_handles_sigterm_has_the_grace_period_to_clean_up(tmp_path: Path) -> None:
    handler = f"trap 'sleep 0.2; touch {tmp_path}/cleaned_up; exit 0' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    run = DriverRun("command", brief(tmp_path, shell=handler, limits=Limits(grace_s=5)))
    until((tmp_path / "ready").exists)
    run.stop.set(StopReason.DRAINED)
    evidence = run.end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.DRAINED)
    assert (tmp_path / "cleaned_up").exists()


def test_a_halted_process_is_stopped_too(tmp_path: Path) -> None:
    run = DriverRun(
        "command", brief(tmp_path, shell=f"touch {tmp_path}/ready; kill -STOP $$", limits=Limits(grace_s=5))
    )
    until((tmp_path / "ready").exists)
    run.stop.set(StopReason.CANCELLED)
    assert run.end().stopped is StopReason.CANCELLED


def test_a_process_that_forks_without_end_is_stopped(tmp_path: Path) -> None:
    bomb = f"trap '' TERM; touch {tmp_path}/ready; f() {{ sleep 0.002; f & f2=1; exit; }}; f & f & f & sleep 600"
    run = DriverRun("command", brief(tmp_path, shell=bomb, limits=Limits(grace_s=0.3)))
    until((tmp_path / "ready").exists)
    run.stop.set(StopReason.CANCELLED)
    assert run.end().stopped is StopReason.CANCELLED
    assert not surviving_processes(run.brief)


def test_the_work_ends_with_a_killed_shim(daemon: Path, tmp_path: Path) -> None:
    shell = DAEMON.format(pid=daemon) + "sleep 600"
    run = DriverRun("command", brief(tmp_path, shell=shell))
    until(daemon.exists)
    os.kill(run.reporter.pid, signal.SIGKILL)
    evidence = run.end(within_s=60)
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, None)
    assert "supervises the workload, was killed" in evidence.error
    assert not surviving_processes(run.brief)
    assert not _alive(daemon), "the kernel ended it with the first process of its namespace"


def test_a_halted_shim_is_abandoned_and_the_work_is_ended(tmp_path: Path) -> None:
    run = DriverRun("command", brief(tmp_path, shell="sleep 600", limits=Limits(grace_s=0)))
    run.reporter.has_started.wait(60)
    until(lambda: len(surviving_processes(run.brief)) >= 2)
    os.kill(run.reporter.pid, signal.SIGSTOP)
    run.stop.set(StopReason.CANCELLED)
    assert run.end(within_s=60).stopped is StopReason.CANCELLED
    assert not surviving_processes(run.brief)


def test_the_work_ends_with_a_killed_worker(daemon: Path, tmp_path: Path) -> None:
    attempt = brief(tmp_path)
    request = {"marker": attempt.marker, "scratch": str(tmp_path), "shell": DAEMON.format(pid=daemon) + "sleep 600"}
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.agents.shim.shim_worker", json.dumps(request)], cwd=CHECKOUT
    )
    until(daemon.exists)
    worker.kill()
    worker.wait()
    until(lambda: not surviving_processes(attempt) and not _alive(daemon))


def test_work_that_outlives_worker_and_shim_is_reaped_by_the_next_worker(tmp_path: Path) -> None:
    """Without the sandbox. In it, the kernel ends everything together with the shim."""
    attempt, supervised = brief(tmp_path, fleet="one"), brief(tmp_path, fleet="one", shell="sleep 600")
    request = {
        "marker": attempt.marker,
        "fleet": "one",
        "scratch": str(tmp_path),
        "shell": "sleep 600; true",
        "confined": False,
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.agents.shim.shim_worker", json.dumps(request)], cwd=CHECKOUT
    )
    until(lambda: len(surviving_processes(attempt)) >= 2)
    # By its command line: only root can read the environment of a shim.
    (shim,) = (pid for pid, parent in tree.process_parents().items() if parent == worker.pid and reaper.is_shim(pid))
    os.kill(worker.pid, signal.SIGSTOP)  # so that it cannot reap by itself
    os.kill(shim, signal.SIGKILL)
    worker.kill()
    worker.wait()
    run = DriverRun("command", supervised)
    until(lambda: len(surviving_processes(supervised)) >= 2)

    assert reaper.reap_orphans(fleet="another") == 0
    assert surviving_processes(attempt)
    assert reaper.reap_orphans(fleet="one") >= 2
    assert not surviving_processes(attempt)
    assert len(surviving_processes(supervised)) >= 2, "its shim still supervises it"
    run.stop.set(StopReason.CANCELLED)
    run.end()


def test_a_stop_at_any_moment_of_the_start_leaves_nothing(tmp_path: Path) -> None:
    for number in range(12):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        run = DriverRun("command", brief(scratch, shell="setsid sleep 600 & sleep 600"))
        time.sleep(number * 0.004)
        run.stop.set(StopReason.CANCELLED)
        assert run.end(within_s=60).stopped is StopReason.CANCELLED
        assert not surviving_processes(run.brief)


def test_fifty_megabytes_of_output_fill_no_memory(tmp_path: Path) -> None:
    assert_output_fills_no_memory(50_000_000, tmp_path)


@pytest.mark.drill
def test_a_gigabyte_of_output_fills_no_memory(tmp_path: Path) -> None:
    assert_output_fills_no_memory(1_000_000_000, tmp_path)


def assert_output_fills_no_memory(size: int, scratch: Path) -> None:
    shell = f"yes | head -c {size}; yes | head -c 1000 >&2"
    request = {"scratch": str(scratch), "shell": shell, "timeout_s": 110}
    command = [sys.executable, "-m", "tests.agents.shim.shim_worker", json.dumps(request)]
    outcome = json.loads(subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True).stdout)
    assert outcome["ok"], outcome["error"]
    assert outcome["bytes"] == size + 1000
    assert outcome["peak"] < 60_000_000
