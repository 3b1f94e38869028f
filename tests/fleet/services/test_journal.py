"""The supervisor's journal keeps events while the database is away, whatever happens to its writers and readers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.config.home import Home
from fleet.services import journal


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.create_folders()
    return home


def write(home: Home, message: str) -> None:
    journal.append(home, kind="service.slow", service="valkey", message=message, data={})


def messages(home: Home) -> list[str]:
    return [entry.message for entry in journal.last(home, 1_000_000)]


def file(home: Home) -> Path:
    return home.private / "events.jsonl"


def ignore(entries: Sequence[journal.JournalEntry]) -> None: ...


def test_an_entry_that_arrives_while_the_others_are_drained_is_kept(home: Home) -> None:
    write(home, "first")
    delivered: list[str] = []

    def accept(entries: Sequence[journal.JournalEntry]) -> None:
        delivered.extend(entry.message for entry in entries)
        write(home, "second")

    assert journal.drain(home, accept) == 1
    assert (delivered, messages(home)) == (["first"], ["second"])
    assert file(home).stat().st_mode & 0o777 == 0o600


def test_no_entry_is_lost_if_the_older_half_is_dropped_while_entries_are_drained(home: Home) -> None:
    for number in range(9):
        write(home, f"{number} {'x' * (journal.BYTES // 9)}")
    delivered: list[str] = []

    def accept(entries: Sequence[journal.JournalEntry]) -> None:
        delivered.extend(entry.message for entry in entries)
        write(home, "during the delivery")

    journal.drain(home, accept)
    assert "during the delivery" in messages(home)


def test_entries_that_could_not_be_delivered_are_delivered_again_with_the_same_ids(home: Home) -> None:
    write(home, "first")
    (entry,) = journal.last(home, 1)

    def refuse(entries: Sequence[journal.JournalEntry]) -> None:
        raise ConnectionError("Postgres is away.")

    with pytest.raises(ConnectionError):
        journal.drain(home, refuse)
    assert journal.last(home, 1) == [entry]
    assert journal.drain(home, ignore) == 1
    assert not file(home).exists()


@pytest.mark.parametrize("damage", [b'{"id": "an interrup', b"\0\0\0\0", b"\xff\xfe", b"[]", b'{"id": "1"}'])
def test_a_damaged_line_costs_no_other_entry(home: Home, damage: bytes) -> None:
    write(home, "first")
    with file(home).open("ab") as lines:
        lines.write(damage)
    write(home, "second")
    assert messages(home) == ["first", "second"]
    assert journal.drain(home, ignore) == 2


def test_a_journal_that_nobody_drains_loses_its_older_half(home: Home) -> None:
    for number in range(10):
        write(home, f"{number} {'x' * (journal.BYTES // 9)}")
    write(home, "last")
    assert [message.split()[0] for message in messages(home)] == ["4", "5", "6", "7", "8", "9", "last"]


def test_a_home_without_events_has_none_to_drain(home: Home) -> None:
    assert journal.drain(home, ignore) == 0
    assert journal.last(home, 5) == []
