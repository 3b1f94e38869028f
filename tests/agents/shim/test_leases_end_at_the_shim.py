"""A shim ends its attempt before its lease ends, whichever process is halted; a renewal counts from its request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.confinement.attempt_limits import Limits, StopReason
from agents.drivers import reaper
from agents.drivers.base import Stop
from fleet import checks, ids, lease
from tests.support.paths import CHECKOUT
from tests.support.processes import warm
from tests.support.waiting import until
from tests.support.work.driver_runs import DriverRun, brief, surviving_processes

TICK = "{ python3 -c 'import time; print(time.monotonic())' >> %s; }"
WRITES = f"trap '' TERM; while :; do {TICK}; done"  # ignores SIGTERM, and writes down the monotonic clock


def limits(**values: Any) -> Limits:
    return Limits(**{"grace_s": 0.5, **values})


def read_times(path: Path) -> list[float]:
    return [float(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def worker() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_work_whose_lease_is_not_renewed_is_killed_before_the_lease_ends(tmp_path: Path) -> None:
    ends = time.monotonic() + 2.5
    notes = tmp_path / "notes"
    run = DriverRun("command", brief(tmp_path, shell=WRITES % notes, limits=limits()), stop=Stop(lease_end=ends))
    evidence = run.end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.LEASE_LOST)
    assert run.stop.reason is StopReason.LEASE_LOST
    assert read_times(notes)
    assert read_times(notes)[-1] < ends + lease.margin_s(2.5)  # the margin allows SIGKILL to take effect
    assert not surviving_processes(run.brief)


def test_work_that_handles_sigterm_has_the_whole_grace_period_before_the_lease_ends(tmp_path: Path) -> None:
    handler = f"trap 'sleep 0.8; touch {tmp_path}/cleaned_up; exit 0' TERM; while :; do sleep 0.05; done"
    stop = Stop(lease_end=time.monotonic() + 4)
    run = DriverRun("command", brief(tmp_path, shell=handler, limits=limits(grace_s=2.5)), stop=stop)
    assert run.end().stopped is StopReason.LEASE_LOST
    assert (tmp_path / "cleaned_up").exists()


def test_work_continues_while_its_lease_is_renewed(tmp_path: Path) -> None:
    stop = Stop(lease_end=time.monotonic() + 2)
    run = DriverRun("command", brief(tmp_path, shell="sleep 4; echo done", limits=limits()), stop=stop)
    while run.thread.is_alive():
        stop.renew(lease_end=time.monotonic() + 2)
        run.thread.join(0.1)
    assert run.end().ok


@pytest.mark.parametrize("driver", ["command", "python"])
def test_no_work_begins_once_its_lease_has_ended(tmp_path: Path, driver: str) -> None:
    attempt_brief = brief(tmp_path, shell=f"touch {tmp_path}/begun", call="tests.contracts.callables:wait",
                  arguments={"ready": str(tmp_path / "begun")}, limits=limits())  # fmt: skip
    run = DriverRun(driver, attempt_brief, stop=Stop(lease_end=time.monotonic() + 0.4))
    assert run.end().stopped is StopReason.LEASE_LOST
    assert not (tmp_path / "begun").exists()


def test_a_callable_is_killed_before_its_lease_ends(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    attempt_brief = brief(
        tmp_path, call="tests.contracts.callables:wait", arguments={"ready": str(ready)}, limits=limits()
    )
    run = DriverRun("python", attempt_brief, stop=Stop(lease_end=time.monotonic() + 5))
    until(ready.exists)
    assert run.end().stopped is StopReason.LEASE_LOST
    assert time.monotonic() > run.stop.lease_end - 0.6
    assert not surviving_processes(attempt_brief)


@pytest.mark.parametrize("driver", ["command", "python"])
def test_a_halted_worker_does_not_keep_its_work_alive(
    tmp_path: Path, driver: str, worker: list[subprocess.Popen[bytes]]
) -> None:
    """It keeps the pipe to its shim open, but cannot renew through it."""
    marker = f"{ids.encode(ids.SORTIE, ids.new())}/1"
    ready = tmp_path / "ready"
    orders = {"marker": marker, "scratch": str(tmp_path), "driver": driver, "shell": f"touch {ready}; sleep 600",
              "call": "tests.contracts.callables:wait", "arguments": {"ready": str(ready)}, "lease_s": 6}  # fmt: skip
    worker.append(
        subprocess.Popen([sys.executable, "-m", "tests.agents.shim.shim_worker", json.dumps(orders)], cwd=CHECKOUT)
    )
    until(ready.exists)
    ends = time.monotonic() + 6  # at the latest, since the lease started before the work
    os.kill(worker[0].pid, signal.SIGSTOP)
    until(lambda: not [process for process in reaper.marked_processes() if process.marker == marker])
    assert time.monotonic() < ends + 30, "the lease ended it, and nothing else"


def test_the_worker_kills_a_halted_shim_when_the_lease_ends(tmp_path: Path) -> None:
    ends = time.monotonic() + 3
    run = DriverRun(
        "command", brief(tmp_path, shell="sleep 600", limits=limits(grace_s=0.2)), stop=Stop(lease_end=ends)
    )
    run.reporter.has_started.wait(60)
    until(lambda: len(surviving_processes(run.brief)) >= 2)
    os.kill(run.reporter.pid, signal.SIGSTOP)
    until(lambda: time.monotonic() > ends - 0.2)
    run.stop.set(StopReason.LEASE_LOST)  # as the engine does
    assert run.end().stopped is StopReason.LEASE_LOST
    assert not surviving_processes(run.brief)


def test_a_shim_that_was_halted_during_a_renewal_continues(tmp_path: Path) -> None:
    stop = Stop(lease_end=time.monotonic() + 3)
    run = DriverRun("command", brief(tmp_path, shell="sleep 5; echo done", limits=limits()), stop=stop)
    until(lambda: len(surviving_processes(run.brief)) >= 2)
    os.kill(run.reporter.pid, signal.SIGSTOP)
    for _ in range(50):
        stop.renew(lease_end=time.monotonic() + 60)
        time.sleep(0.08)
    os.kill(run.reporter.pid, signal.SIGCONT)
    assert run.end().ok


def test_renewals_never_block_on_a_shim_that_does_not_read(tmp_path: Path) -> None:
    run = DriverRun("command", brief(tmp_path, shell="sleep 600", limits=limits(grace_s=0)))
    until(lambda: len(surviving_processes(run.brief)) >= 2)
    os.kill(run.reporter.pid, signal.SIGSTOP)
    for _ in range(20_000):  # more than a pipe holds
        run.stop.renew(lease_end=time.monotonic() + 60)
    os.kill(run.reporter.pid, signal.SIGCONT)
    run.stop.set(StopReason.CANCELLED)
    assert run.end().stopped is StopReason.CANCELLED


def test_a_renewal_counts_from_its_request() -> None:
    assert lease.end(requested_at=100.0, lease_s=30) == 128.0
    assert lease.end(requested_at=100.0, lease_s=4) == 103.0


def test_earlier_attempts_are_killed_even_if_their_shims_are_halted(tmp_path: Path) -> None:
    sortie = ids.encode(ids.SORTIE, ids.new())
    runs = []
    for number in (1, 2, 3):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        runs.append(DriverRun("command", brief(scratch, marker=f"{sortie}/{number}", shell="sleep 600")))
        until(lambda: len(surviving_processes(runs[-1].brief)) >= 2)
    other = DriverRun("command", brief(tmp_path, shell="sleep 600"))
    until(lambda: len(surviving_processes(other.brief)) >= 2)
    os.kill(runs[0].reporter.pid, signal.SIGSTOP)
    assert reaper.reap_earlier(f"{sortie}/3") == set()
    assert not surviving_processes(runs[0].brief)
    assert not surviving_processes(runs[1].brief)
    assert len(surviving_processes(runs[2].brief)) >= 2
    assert len(surviving_processes(other.brief)) >= 2
    for run in (runs[2], other):
        run.stop.set(StopReason.CANCELLED)
    for run in (*runs, other):
        run.end()


@pytest.mark.parametrize(
    ("lease_s", "grace_s", "renew_s", "refused"),
    [
        (30, 5, 2, False),
        (11, 5, 2, False),
        (10.9, 5, 2, True),
        (4, 1, 0.3, False),
        (5, 5, 0.1, True),
        (2, 1, 0.3, True),
    ],
)
def test_a_lease_too_short_for_the_grace_period_is_refused(
    settings: Any, lease_s: float, grace_s: float, renew_s: float, refused: bool
) -> None:
    settings.FLEET_LEASE_S, settings.FLEET_GRACE_S, settings.FLEET_RENEW_S = lease_s, grace_s, renew_s
    problems = checks.check_lease_duration(None)
    assert [problem.id for problem in problems] == (["fleet.E002"] if refused else [])
    assert all("too short to stop a workload before its lease ends" in problem.msg for problem in problems)


@pytest.mark.parametrize("command", ["fleet_node", "fleet_up", "fleet_control"])
def test_commands_that_start_agents_refuse_a_lease_that_is_too_short(command: str, tmp_path: Path) -> None:
    env = {**os.environ, "FLEET_LEASE_S": "6", "FLEET_GRACE_S": "5"}
    result = warm.shared().manage(command, env=env)
    assert result.returncode == 1
    assert "fleet.E002" in result.stderr
    assert "Raise FLEET_LEASE_S" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_stop_passes_renewals_on_to_its_listener() -> None:
    lease_ends: list[float] = []
    stop = Stop(lease_end=1.0)
    stop.set_listener(lease_ends.append)
    stop.renew(lease_end=2.0)
    stop.set_listener(None)
    stop.renew(lease_end=3.0)
    assert (lease_ends, stop.lease_end) == ([1.0, 2.0], 3.0)
