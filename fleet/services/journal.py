"""The supervisor's journal: events in a file, because the database may be the service that failed.

`.fleet/private/events.jsonl` has one JSON object per line. The control loop moves the lines into the table of events
with `drain`; `fleet_services status` shows the last ones. When the file grows beyond BYTES, its older half is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fleet import ids
from fleet.config.home import Home

BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    id: str  # identifies an entry that is delivered twice
    at: str  # ISO 8601, UTC
    kind: str  # service.restarted, service.failed, service.slow, service.large, service.restarts, service.normal
    service: str
    message: str
    data: Mapping[str, float | int | str | None] = field(default_factory=dict)


def append(
    home: Home, *, kind: str, service: str, message: str, data: Mapping[str, float | int | str | None]
) -> JournalEntry:
    """Append an entry, flushed to disk, and return it."""
    entry = JournalEntry(
        id=str(ids.new()),
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        kind=kind,
        service=service,
        message=message,
        data=data,
    )
    with _locked(home):
        path = _file(home)
        if path.exists() and path.stat().st_size > BYTES:
            _drop_older_half(path)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "wb") as file:
            size = os.fstat(handle).st_size
            interrupted = size > 0 and os.pread(handle, 1, size - 1) != b"\n"  # for example, by a full disk
            file.write(b"\n" * interrupted + json.dumps(asdict(entry)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    return entry


def last(home: Home, count: int) -> list[JournalEntry]:
    """Return the newest entries that are not drained yet, oldest first."""
    with _locked(home):
        return _entries(_file(home))[-count:]


def drain(home: Home, accept: Callable[[Sequence[JournalEntry]], None]) -> int:
    """Pass all entries to `accept`, remove them once it has returned, and return their number.

    Delivery is at least once: if `accept` raises or this process dies, the entries stay and are delivered again with
    the same ids.
    """
    path = _file(home)
    if not path.exists():  # the common case needs no lock
        return 0
    with _locked(home):
        entries = _entries(path)
        before = path.stat() if path.exists() else None
    if entries:
        accept(entries)  # without the lock: this may be slow, and the supervisor keeps writing
    with _locked(home):
        if before is None or not path.exists() or path.stat().st_ino != before.st_ino:
            return len(entries)  # the older half was dropped meanwhile: what is left is delivered next time
        remaining = path.read_bytes()[before.st_size :]
        if remaining:
            _replace(path, remaining)
        else:
            path.unlink(missing_ok=True)
    return len(entries)


def _entries(path: Path) -> list[JournalEntry]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entries.append(JournalEntry(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # an incomplete line of a writer that was killed, or a damaged one
    return entries


def _drop_older_half(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    _replace(path, b"".join(lines[len(lines) // 2 :]))


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name("events.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)


def _file(home: Home) -> Path:
    return home.private / "events.jsonl"


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    handle = os.open(home.run / "events.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
