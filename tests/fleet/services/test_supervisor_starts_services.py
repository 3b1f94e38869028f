"""The supervisor starts services after those that they need, and reports why one could not be started."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from fleet import errors
from fleet.services.supervision.service import Command
from tests.fleet.services.supervisor_harness import SupervisorHarness, new_service, no_work, probe_of


def test_the_supervisor_is_ready_only_after_its_introduction(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path)

    async def introduce() -> None:
        await asyncio.sleep(0)
        assert not harness.supervisor.status()["ready"]
        harness.supervisor.say("introduction")

    async def work() -> int:
        assert harness.supervisor.status()["ready"]
        assert "introduction" in harness.output
        return 7

    assert asyncio.run(harness.supervisor.run(work, introduce=introduce)) == 7


def test_services_start_after_their_needs_and_stop_in_reverse(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    slow = f"import time; time.sleep(0.3); open({str(flag)!r}, 'w'); time.sleep(600)"
    harness = SupervisorHarness(
        tmp_path / "home",
        new_service("base", slow, probe=probe_of(flag)),
        new_service("step", "print('done')", once=True, needs=("base",)),
        new_service("top", needs=("base", "step")),
    )
    assert harness.run(no_work) == 0
    assert harness.output == [
        "base: starting", "base: healthy", "step: running", "top: starting", "top: healthy",
        "top: stopping", "base: stopping",
    ]  # fmt: skip


def test_a_failed_step_stops_the_start_and_its_last_lines_are_printed(tmp_path: Path) -> None:
    harness = SupervisorHarness(
        tmp_path,
        new_service("base"),
        new_service("step", "raise SystemExit('no room')", once=True),
        new_service("top", needs=("step",)),
    )
    assert harness.run(no_work) == 1
    assert "step: failed: it ended with exit code 1; its last output: no room" in harness.output
    assert "top: starting" not in harness.output


def test_a_service_that_is_not_vital_may_fail(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"), new_service("extra", "raise SystemExit(1)", vital=False))

    async def until_it_failed() -> None:
        await harness.until(lambda: harness.service("extra")["state"] == "failed")

    assert harness.run(until_it_failed) == 0
    assert harness.kinds().count("service.failed") == 1


def test_a_service_that_never_answers_fails(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base", probe=probe_of(tmp_path / "never"), ready_s=0.1))
    assert harness.run(no_work) == 1
    assert any("did not answer within" in line and "It is not there yet." in line for line in harness.output)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("port")])
def test_an_unexpected_error_at_a_start_does_not_end_the_runner(tmp_path: Path, error: Exception) -> None:
    def surprise() -> Command:
        raise error

    harness = SupervisorHarness(tmp_path, new_service("base"), new_service("odd", command=surprise))
    assert harness.run(no_work) == 1
    assert f"odd: failed: {type(error).__name__}: {error}" in harness.output
    assert harness.output[-1] == "base: stopping"


def test_an_unexpected_error_of_a_probe_stops_the_process(tmp_path: Path) -> None:
    async def odd() -> None:
        raise ValueError("no such port")

    harness = SupervisorHarness(tmp_path, new_service("base", probe=odd))
    assert harness.run(no_work) == 1
    assert "base: failed: ValueError: no such port" in harness.output


def test_a_refused_configuration_fails_at_once(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise errors.Invalid("It wants a password.")

    harness = SupervisorHarness(tmp_path, new_service("theirs", command=None, probe=refuse))
    assert harness.run(no_work) == 1
    assert harness.service("theirs")["restarts"] == 0
    assert "theirs: failed: It wants a password." in harness.output


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_first_start_without_space_or_permission_is_not_retried(tmp_path: Path, number: int) -> None:
    code = f"import os; raise SystemExit(f'FATAL: data: {{os.strerror({number})}}')"
    harness = SupervisorHarness(tmp_path, new_service("base", code, probe=probe_of(tmp_path / "never")))
    assert harness.run(no_work) == 1
    assert harness.service("base")["restarts"] == 0
    assert harness.output[-2:] == [
        f"base: failed: it ended with exit code 1; its last output: FATAL: data: {os.strerror(number)}",
        "base could not be started; stopping the other services.",
    ]


def test_a_stop_before_readiness_exits_with_130_and_starts_nothing_more(tmp_path: Path) -> None:
    harness = SupervisorHarness(
        tmp_path, new_service("base", probe=probe_of(tmp_path / "never")), new_service("top", needs=("base",))
    )
    assert harness.run_until(lambda: "base: starting" in harness.output) == 130
    assert "top: starting" not in harness.output
