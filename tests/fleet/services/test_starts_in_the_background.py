"""`up --detach`: only one of several commands starts a supervisor, and Ctrl-C stops what was started."""

from __future__ import annotations

import signal
from typing import IO

import pytest

from fleet.config.home import Home
from fleet.services.supervision import lock
from tests.support.processes.supervised import checkout
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("services"), pytest.mark.timeout(300)]


def read_until(stream: IO[str] | None, words: str) -> str:
    assert stream is not None
    text = ""
    while words not in text:
        line = stream.readline()
        assert line, f"{words!r} was never printed: {text}"
        text += line
    return text


def test_of_several_starts_one_starts_the_fleet_and_the_others_show_its_addresses_once() -> None:
    with checkout() as home:
        starts = [home.start("fleet_up", "--detach") for _ in range(3)]
        texts = [start.communicate(timeout=200)[1] for start in starts]
        assert [start.returncode for start in starts] == [0, 0, 0], texts
        assert [text.count("  api ") for text in texts] == [1, 1, 1], texts
        assert sorted("already" in text for text in texts) == [False, True, True], texts
        assert sorted("postgres: " in text for text in texts) == [False, False, True], texts
        home.manage("fleet_down")
        assert home.left_behind() == []


def test_ctrl_c_stops_what_was_started() -> None:
    with checkout(empty=True) as home:
        starting = home.start("fleet_services", "up", "--detach")
        until((home.root / "private" / "postgres.new").exists)
        starting.send_signal(signal.SIGINT)
        _, text = starting.communicate(timeout=60)
        assert starting.returncode == 130
        assert "Interrupted. Stopping what has been started.\n" in text
        assert text.endswith("The start was interrupted. What it had started is stopped.\n")
        assert home.left_behind() == []


def test_ctrl_c_during_the_start_of_another_command_says_that_it_continues() -> None:
    with checkout() as home:
        fleet_home = Home(home.root)
        fleet_home.create_folders()
        with lock.hold_start(fleet_home, say=lambda _: None):
            waiting = home.start("fleet_services", "up", "--detach")
            read_until(waiting.stderr, "A start is already in progress. Waiting until it is done.")
            waiting.send_signal(signal.SIGINT)
            _, text = waiting.communicate(timeout=60)
        assert waiting.returncode == 130
        assert text.startswith("No longer waiting. The start continues. Show it: ")
        assert "fleet_services status. Stop it: " in text
        assert home.left_behind() == []
