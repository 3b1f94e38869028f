"""The processes' logs: `.fleet/private/logs/NAME.log`, bounded, one older file each.

A process writes to its file directly, so that it can go on when the supervisor is gone. The file is therefore
emptied in place (its writers append) after what it held was copied to `NAME.log.1`.
"""

from __future__ import annotations

import heapq
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from fleet import errors, invocation
from fleet.config.home import Home

EARLIEST = datetime.min.replace(tzinfo=UTC)
# `2026-11-28 17:19:26.088 UTC …`, `2026-11-28 17:19:50,997 INFO …` and, with FLEET_LOG=json, `{"at": "2026-11-28T…`
_ISO = re.compile(
    r"(?:\{\"\w+\": ?\")?(?P<day>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<part>\d+))?", re.ASCII
)
# `30058:M 28 Nov 2026 17:19:19.609 * …`
_VALKEY = re.compile(
    r"\d+:\w (?P<day>\d\d?) (?P<month>[A-Z][a-z]{2}) (?P<year>\d{4}) (?P<time>\d\d:\d\d:\d\d)\.(?P<part>\d{3}) ",
    re.ASCII,
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
PAUSE_S = 0.2  # between two looks at a log that is followed


def path(home: Home, name: str) -> Path:
    return home.logs / f"{name}.log"


def open_for_append(home: Home, name: str) -> BinaryIO:
    """The log as a file that a process can be given as its output."""
    return os.fdopen(os.open(path(home, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb")


def bound(home: Home, *, limit: int) -> None:
    """Put aside every log larger than `limit` bytes, but those of agents: their node does that when it has read them."""
    for log in home.logs.glob("*.log"):
        if not log.name.startswith("agent-") and log.stat().st_size > limit:
            put_aside(log)


def put_aside(log: Path, *, kept: int = 1) -> None:
    """Empty a log in place, after what it held was copied to `.1`, what that held moved to `.2`, and so on up to `kept`.

    OSError where the copy cannot be written (a full disk); the log is emptied all the same, for its bound matters more.
    """
    for number in range(kept, 1, -1):
        with suppress(FileNotFoundError):
            os.replace(f"{log}.{number - 1}", f"{log}.{number}")
    older = Path(f"{log}.1")
    try:
        older.touch(mode=0o600)
        shutil.copyfile(log, older)
    except OSError:
        older.unlink(missing_ok=True)
        raise
    finally:
        os.truncate(log, 0)


def names(home: Home) -> list[str]:
    return sorted(log.stem for log in home.logs.glob("*.log"))


def ends(home: Home) -> dict[str, int]:
    """Where each log ends now, in bytes: what `tail` shows lies before, what `follow` gives after."""
    return {name: path(home, name).stat().st_size for name in names(home)}


def tail(home: Home, name: str, *, lines: int, end: int | None = None) -> list[str]:
    """The last lines of a log (up to `end`, where one is given); NotFound where there is none of that name."""
    log = path(home, name)
    if name not in names(home):
        known = ", ".join(names(home))
        raise errors.NotFound(
            f"There is no log of {name!r}.",
            hint=f"There are logs of {known}."
            if known
            else f"Start a fleet: {invocation.command('fleet_up', '--detach')}",
        )
    return log.read_bytes()[:end].decode(errors="replace").splitlines()[-lines:] if lines else []


def last_lines(home: Home, chosen: Sequence[str], *, lines: int, ends: dict[str, int]) -> list[tuple[str, str]]:
    """The last lines of these logs together, each with the name of its log, by the time that it begins with.

    A line without a time belongs to the one before it in its log.
    """
    timed = [_timed(name, tail(home, name, lines=lines, end=ends.get(name))) for name in chosen]
    merged = [(name, line) for _, name, line in heapq.merge(*timed, key=lambda entry: entry[0])]
    return merged[-lines:] if lines else []


def _timed(name: str, lines: Sequence[str]) -> Iterator[tuple[datetime, str, str]]:
    times = [written_at(line) for line in lines]
    at = next(filter(None, times), EARLIEST)  # lines before the first that has a time are shown with that
    for time_, line in zip(times, lines, strict=True):
        at = max(at, time_ or at)
        yield at, name, line


def written_at(line: str) -> datetime | None:
    """The time in UTC that a line of a log begins with; None where it has none.

    The processes of the fleet write UTC (as Django's settings say), and so do Postgres and Valkey, which inherit that.
    """
    if found := _ISO.match(line):
        text = f"{found['day']}T{found['time']}.{(found['part'] or '0')[:6]:0<6}"
    elif found := _VALKEY.match(line):
        month = _MONTHS.index(found["month"]) + 1
        text = f"{found['year']}-{month:02}-{found['day']:0>2}T{found['time']}.{found['part']}000"
    else:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def follow(home: Home, chosen: Sequence[str], *, places: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Each line that is written after these `places`, with the name of its log; it ends only when its user stops asking.

    With no names chosen it follows all logs, those that come into being later too.
    """
    places = dict(places)
    while True:
        quiet = True
        for name in chosen or names(home):
            for line in _new_lines(path(home, name), places, name):
                quiet = False
                yield name, line
        if quiet:
            time.sleep(PAUSE_S)


def _new_lines(log: Path, places: dict[str, int], name: str) -> Iterator[str]:
    try:
        with log.open("rb") as file:
            place = places.get(name, 0)
            if os.fstat(file.fileno()).st_size < place:
                place = 0  # it was put aside
            file.seek(place)
            whole, newline, _ = file.read().rpartition(b"\n")  # a line that is still being written comes next time
    except FileNotFoundError:
        return
    places[name] = place + len(whole) + len(newline)
    if newline:
        yield from whole.decode(errors="replace").split("\n")
