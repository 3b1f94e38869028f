"""What is specific to the scripted driver, which tests of the engine rely on."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agents.drivers.base import Limits, StopReason
from tests.support.flights import Ear, Flight, brief


def test_it_fails_as_often_as_its_script_says(tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, arguments={"fail_times": 2})
    sortie = attempt_brief.marker.rpartition("/")[0]
    oks = [Flight("scripted", replace(attempt_brief, marker=f"{sortie}/{attempt}")).end().ok for attempt in (1, 2, 3)]
    assert oks == [False, False, True]


def test_it_raises_like_a_driver_with_a_bug(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="an error"):
        Flight("scripted", brief(tmp_path, arguments={"raise": "an error"})).end()


def test_it_prints_exactly_that_much_in_pieces(tmp_path: Path) -> None:
    ear = Ear()
    Flight("scripted", brief(tmp_path, arguments={"output": {"bytes": 200_001, "stream": "stderr"}}), ear=ear).end()
    assert ear.heard_bytes == 200_001
    assert ear.largest <= 65_536


def test_it_holds_until_a_path_is_there(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    flight = Flight("scripted", brief(tmp_path, arguments={"hold_until": str(gate), "result": 1}))
    time.sleep(0.05)
    assert flight.thread.is_alive()
    gate.touch()
    assert flight.end().result == 1


def test_it_can_ignore_a_stop(tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, arguments={"hold": True, "ignore_stop": True}, limits=Limits(timeout_s=0.3))
    flight = Flight("scripted", attempt_brief)
    flight.stop.set(StopReason.CANCELLED)
    assert flight.end().stopped is StopReason.TIMEOUT


def test_its_result_may_be_one_that_postgres_cannot_store(tmp_path: Path) -> None:
    assert "\0" in str(Flight("scripted", brief(tmp_path, arguments={"result_nul": True})).end().result)


def test_it_kills_its_own_process(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        Flight("scripted", brief(tmp_path, arguments={"kill_worker": True})).end()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
