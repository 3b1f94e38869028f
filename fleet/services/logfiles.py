"""The log files of the processes: `.fleet/private/logs/NAME.log`, rotated by size, with one older file each.

A process appends to its file directly, so that it survives the supervisor. Rotation therefore copies the
content to `NAME.log.1` and truncates the file in place.
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

from fleet import errors
from fleet.config.home import Home
from fleet.console import invocation

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
PAUSE_S = 0.2  # between two reads of a log that is followed


def path(home: Home, name: str) -> Path:
    return home.logs / f"{name}.log"


def open_for_append(home: Home, name: str) -> BinaryIO:
    """Open a log for appending, to be the output of a process."""
    return os.fdopen(os.open(path(home, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb")


def rotate_large(home: Home, *, limit: int) -> None:
    """Rotate every log larger than `limit` bytes, except those of agents, which their node rotates."""
    for log in home.logs.glob("*.log"):
        if not log.name.startswith("agent-") and log.stat().st_size > limit:
            rotate(log)


def rotate(log: Path, *, keep: int = 1) -> None:
    """Copy a log to `.1`, after moving `.1` to `.2` and so on up to `keep` older files, and truncate it in place.

    Raises OSError if the copy cannot be written, such as on a full disk. The log is truncated even then.
    """
    for number in range(keep, 1, -1):
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
    """Return the size of each log in bytes: `tail` reads up to that offset, and `follow` continues from it."""
    return {name: path(home, name).stat().st_size for name in names(home)}


def tail(home: Home, name: str, *, lines: int, end: int | None = None) -> list[str]:
    """Return the last lines of a log before the offset `end`; raises NotFound if no log has that name."""
    log = path(home, name)
    if name not in names(home):
        log_names = ", ".join(names(home))
        raise errors.NotFound(
            f"There is no log of {name!r}.",
            hint=f"The logs are: {log_names}."
            if log_names
            else f"Start a fleet: {invocation.command('fleet_up', '--detach')}",
        )
    return log.read_bytes()[:end].decode(errors="replace").splitlines()[-lines:] if lines else []


def last_lines(home: Home, log_names: Sequence[str], *, lines: int, ends: dict[str, int]) -> list[tuple[str, str]]:
    """Return the last lines of several logs, merged by their timestamps, each with the name of its log.

    A line without a timestamp stays with the line before it in its log.
    """
    timed = [_timed(name, tail(home, name, lines=lines, end=ends.get(name))) for name in log_names]
    merged = [(name, line) for _, name, line in heapq.merge(*timed, key=lambda entry: entry[0])]
    return merged[-lines:] if lines else []


def _timed(name: str, lines: Sequence[str]) -> Iterator[tuple[datetime, str, str]]:
    times = [written_at(line) for line in lines]
    at = next(filter(None, times), EARLIEST)  # lines before the first timestamp are shown with that line
    for line_at, line in zip(times, lines, strict=True):
        at = max(at, line_at or at)
        yield at, name, line


def written_at(line: str) -> datetime | None:
    """Parse the UTC timestamp at the start of a log line; None if there is none.

    All logs are in UTC: Django sets TZ in its process, and Postgres and Valkey inherit it.
    """
    try:
        if match := _ISO.match(line):
            text = f"{match['day']}T{match['time']}.{(match['part'] or '0')[:6]:0<6}"
        elif match := _VALKEY.match(line):
            month = _MONTHS.index(match["month"]) + 1
            text = f"{match['year']}-{month:02}-{match['day']:0>2}T{match['time']}.{match['part']}000"
        else:
            return None
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # it only looks like one
        return None


def follow(home: Home, log_names: Sequence[str], *, offsets: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield each line written after these offsets, with the name of its log. Never ends.

    Without `log_names` it follows all logs, including those that are created later.
    """
    offsets = dict(offsets)
    while True:
        idle = True
        for name in log_names or names(home):
            for line in _new_lines(path(home, name), offsets, name):
                idle = False
                yield name, line
        if idle:
            time.sleep(PAUSE_S)


def _new_lines(log: Path, offsets: dict[str, int], name: str) -> Iterator[str]:
    try:
        with log.open("rb") as file:
            offset = offsets.get(name, 0)
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0  # the log was rotated
            file.seek(offset)
            complete, newline, _ = file.read().rpartition(b"\n")  # an incomplete line is read next time
    except FileNotFoundError:
        return
    offsets[name] = offset + len(complete) + len(newline)
    if newline:
        yield from complete.decode(errors="replace").split("\n")
