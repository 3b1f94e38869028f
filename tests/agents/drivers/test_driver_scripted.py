"""What is specific to the scripted driver, which tests of the engine rely on."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agents.confinement.attempt_limits import Limits, StopReason
from tests.support.work.driver_runs import DriverRun, RecordingReporter, brief


def test_it_fails_as_often_as_its_script_says(tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, arguments={"fail_times": 2})
    sortie = attempt_brief.marker.rpartition("/")[0]
    oks = [
        DriverRun("scripted", replace(attempt_brief, marker=f"{sortie}/{attempt}")).end().ok for attempt in (1, 2, 3)
    ]
    assert oks == [False, False, True]


def test_it_raises_like_a_driver_with_a_bug(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="an error"):
        DriverRun("scripted", brief(tmp_path, arguments={"raise": "an error"})).end()


def test_it_prints_exactly_that_much_in_pieces(tmp_path: Path) -> None:
    reporter = RecordingReporter()
    DriverRun(
        "scripted", brief(tmp_path, arguments={"output": {"bytes": 200_001, "stream": "stderr"}}), reporter=reporter
    ).end()
    assert reporter.received_bytes == 200_001
    assert reporter.largest <= 65_536


def test_it_holds_until_a_path_is_there(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = DriverRun("scripted", brief(tmp_path, arguments={"hold_until": str(gate), "result": 1}))
    time.sleep(0.05)
    assert run.thread.is_alive()
    gate.touch()
    assert run.end().result == 1


def test_it_can_ignore_a_stop(tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, arguments={"hold": True, "ignore_stop": True}, limits=Limits(timeout_s=0.3))
    run = DriverRun("scripted", attempt_brief)
    run.stop.set(StopReason.CANCELLED)
    assert run.end().stopped is StopReason.TIMEOUT


def test_its_result_may_be_one_that_postgres_cannot_store(tmp_path: Path) -> None:
    assert "\0" in str(DriverRun("scripted", brief(tmp_path, arguments={"result_nul": True})).end().result)


def test_it_kills_its_own_process(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        DriverRun("scripted", brief(tmp_path, arguments={"kill_worker": True})).end()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
