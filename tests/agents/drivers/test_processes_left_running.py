"""Processes that the work leaves running: those that hold its output may finish; the others are ended and reported."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from agents.confinement.attempt_limits import Limits, StopReason
from agents.drivers.base import Stop
from tests.support.waiting import until
from tests.support.work.driver_runs import DriverRun, brief, surviving_processes


def run_command(scratch: Path, *argv: str, **limits: Any) -> DriverRun:
    run = DriverRun("command", brief(scratch, argv=argv, limits=Limits(timeout_s=60, **{"grace_s": 2, **limits})))
    run.end()
    return run


def fleet_output(run: DriverRun) -> str:
    return run.reporter.tails["fleet"].decode().strip()


def test_output_that_passes_through_another_process_is_not_lost(tmp_path: Path) -> None:
    run = run_command(tmp_path, "bash", "-c", "exec > >(sleep 1; cat) 2>&1; echo LAST")
    assert run.evidence is not None
    assert (run.evidence.ok, run.evidence.result) == (True, {"output": "LAST\n"})
    assert fleet_output(run) == ""


def test_a_process_that_holds_the_output_too_long_is_ended_and_counted(tmp_path: Path) -> None:
    run = run_command(tmp_path, "bash", "-c", "(sleep 8; touch m) & exit 0", linger_s=0.5)
    assert run.evidence is not None
    assert run.evidence.ok, "the exit code of the main process decides"
    assert fleet_output(run) == "2 processes were still running and were ended."
    assert run.reporter.reports[-1] == (None, fleet_output(run))
    assert not (tmp_path / "m").exists()
    assert not surviving_processes(run.brief)


def test_a_process_that_holds_only_standard_error_may_finish_too(tmp_path: Path) -> None:
    run = run_command(tmp_path, "bash", "-c", "(sleep 0.7; echo late >&2) >/dev/null & exit 0")
    assert run.reporter.tails["stderr"] == b"late\n"
    assert fleet_output(run) == ""


def test_a_process_that_does_not_hold_the_output_is_ended_at_once_and_counted(tmp_path: Path) -> None:
    start = time.monotonic()
    run = run_command(tmp_path, "bash", "-c", "sleep 600 >/dev/null 2>&1 & exit 3", linger_s=60)
    assert run.evidence is not None
    assert (run.evidence.finished, run.evidence.exit_code) == (True, 3)
    assert fleet_output(run) == "1 process was still running and was ended."
    assert time.monotonic() - start < 50, "it did not wait for the process to end"


def test_descendants_of_a_holder_may_finish_with_it(tmp_path: Path) -> None:
    """A child of the holder redirects its own output, but the holder waits for it before it writes."""
    through = "(echo $(sleep 0.5 2>/dev/null; echo told)) & sleep 600 >/dev/null 2>&1 & exit 0"
    run = run_command(tmp_path, "bash", "-c", through)
    assert run.reporter.out == "told\n"
    assert fleet_output(run) == "1 process was still running and was ended."


def test_a_process_that_redirects_its_output_is_ended_at_once(tmp_path: Path) -> None:
    daemon = "(sleep 0.3; exec >/dev/null 2>&1 sleep 600) & exit 0"
    start = time.monotonic()
    run = run_command(tmp_path, "bash", "-c", daemon, linger_s=60)
    assert fleet_output(run) == "1 process was still running and was ended."
    assert time.monotonic() - start < 50


@pytest.mark.parametrize("reason", [StopReason.CANCELLED, StopReason.LEASE_LOST])
def test_a_stop_ends_the_wait(tmp_path: Path, reason: StopReason) -> None:
    shell = f"(trap '' TERM; touch {tmp_path}/ready; sleep 600) & exit 0"
    run = DriverRun("command", brief(tmp_path, shell=shell, limits=Limits(grace_s=0.2, linger_s=600)))
    until((tmp_path / "ready").exists)
    run.stop.set(reason)
    assert run.end().ok, "the work had ended by itself"
    assert not surviving_processes(run.brief)


def test_the_end_of_the_lease_ends_the_wait(tmp_path: Path) -> None:
    attempt = brief(tmp_path, shell="sleep 600 & exit 0", limits=Limits(grace_s=0.2, linger_s=600))
    run = DriverRun("command", attempt, stop=Stop(lease_end=time.monotonic() + 2))
    run.end()
    assert time.monotonic() < run.stop.lease_end + 30
    assert not surviving_processes(attempt)


def test_most_commands_leave_nothing_and_wait_for_nothing(tmp_path: Path) -> None:
    run = run_command(tmp_path, "sh", "-c", "echo a | cat; true", linger_s=600)
    assert (run.reporter.out, fleet_output(run)) == ("a\n", "")
