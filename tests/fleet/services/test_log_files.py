"""The logs of a fleet's processes: their rotation, and what `fleet_services logs` makes of them."""

from __future__ import annotations

import os
import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet import errors
from fleet.config.home import Home
from fleet.services import logfiles
from tests.support.processes import forked


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.create_folders()
    return home


def write(home: Home, name: str, text: str) -> Path:
    with logfiles.open_for_append(home, name) as log:
        log.write(text.encode())
    return logfiles.path(home, name)


def test_only_large_logs_are_rotated_and_agents_logs_are_left_to_their_node(home: Home) -> None:
    logs = {name: write(home, name, text) for name, text in [("web", "long"), ("control", "x"), ("agent-1", "long")]}
    logfiles.rotate_large(home, limit=3)
    assert {name: log.read_text() for name, log in logs.items()} == {"web": "", "control": "x", "agent-1": "long"}
    older = Path(f"{logs['web']}.1")
    assert (older.read_text(), older.stat().st_mode & 0o777) == ("long", 0o600)
    assert not Path(f"{logs['control']}.1").exists()


def test_older_files_are_kept_up_to_a_number(home: Home) -> None:
    for text in ("first", "second", "third", "fourth"):
        log = write(home, "agent-1", text)
        logfiles.rotate(log, keep=2)
    assert [Path(f"{log}.{number}").read_text() for number in (1, 2)] == ["fourth", "third"]
    assert not Path(f"{log}.3").exists()


def test_a_log_that_cannot_be_copied_is_truncated_and_leaves_no_part_of_a_copy(home: Home) -> None:
    log = write(home, "web", "x" * 100_000)

    def rotate_without_space() -> str:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # like a disk with too little space left
        try:
            logfiles.rotate(log)
        except OSError as error:
            return os.strerror(error.errno or 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return "it was copied"

    assert forked.run(rotate_without_space) == "File too large"
    assert log.stat().st_size == 0
    assert not Path(f"{log}.1").exists()


def test_an_unknown_log_is_refused_with_the_names_of_the_others(home: Home) -> None:
    with pytest.raises(errors.NotFound) as refusal:
        logfiles.tail(home, "redis", lines=5)
    assert refusal.value.hint.startswith("Start a fleet: ")
    write(home, "web", "x")
    write(home, "control", "x")
    with pytest.raises(errors.NotFound, match="There is no log of 'redis'") as refusal:
        logfiles.tail(home, "redis", lines=5)
    assert refusal.value.hint == "The logs are: control, web."


@pytest.mark.parametrize(
    "line, at",
    [
        ("2026-11-28 17:19:26.088 UTC [1] LOG: ready", datetime(2026, 11, 28, 17, 19, 26, 88_000, UTC)),
        ("2026-11-28 17:19:50,997 INFO started", datetime(2026, 11, 28, 17, 19, 50, 997_000, UTC)),
        ('{"at": "2026-11-28T17:19:50.5Z", "event": "x"}', datetime(2026, 11, 28, 17, 19, 50, 500_000, UTC)),
        ("30058:M 28 Nov 2026 17:19:19.609 * Ready", datetime(2026, 11, 28, 17, 19, 19, 609_000, UTC)),
        ("2026-13-28 17:19:26 is no month", None),
        ("30058:M 31 Feb 2026 17:19:19.609 * no day", None),
        ("30058:M 28 Okt 2026 17:19:19.609 * no month", None),
        ("Traceback (most recent call last):", None),
    ],
)
def test_the_time_of_a_line_is_the_timestamp_at_its_start_if_it_has_a_valid_one(line: str, at: datetime | None) -> None:
    assert logfiles.written_at(line) == at


def test_lines_without_a_time_stay_with_the_line_before_them(home: Home) -> None:
    write(home, "web", "2026-11-28 10:00:00 failed\nTraceback:\n  at line 1\n2026-11-28 10:00:03 recovered\n")
    write(home, "control", "2026-11-28 10:00:02 works\n")
    merged = logfiles.last_lines(home, ["web", "control"], lines=4, ends=logfiles.ends(home))
    assert [line for _, line in merged] == [
        "Traceback:",
        "  at line 1",
        "2026-11-28 10:00:02 works",
        "2026-11-28 10:00:03 recovered",
    ]


def test_following_shows_new_logs_and_continues_after_a_rotation(home: Home) -> None:
    log = write(home, "web", "already shown\n")
    lines = logfiles.follow(home, [], offsets=logfiles.ends(home))
    write(home, "web", "second\nhalf a li")
    assert next(lines) == ("web", "second")
    write(home, "node", "a new log\n")
    assert next(lines) == ("node", "a new log")
    logfiles.rotate(log)
    write(home, "web", "third\n")
    assert next(lines) == ("web", "third")


def test_following_a_log_waits_for_a_process_that_has_not_started(home: Home) -> None:
    lines = logfiles.follow(home, ["flower", "web"], offsets={})
    write(home, "web", "it works\n")
    assert next(lines) == ("web", "it works")
    write(home, "flower", "it works, too\n")
    assert next(lines) == ("flower", "it works, too")
