"""Read missions from the database, as the text that checkpoints store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction

from checkpoints.document import Bucket, MissionEntry, Part, bucket_of, combined_digest
from checkpoints.files import storage
from checkpoints.recovery import context
from checkpoints.recovery.context import Context
from checkpoints.rows import workspaces
from checkpoints.rows.workspaces import CurrentWorkspace
from fleet import errors, ids
from fleet.postgres import statements
from missions.states import SortieState

CHUNK = 200  # rows that Postgres sends at once


class Row(NamedTuple):
    """The row of a sortie: its id and exact state."""

    id: UUID
    state: str


@dataclass(slots=True, kw_only=True)
class CurrentMission:
    """A mission in the database, as text.

    `buckets` contains those that were read: all of them, or those that may differ from the parent's.
    """

    id: UUID
    name: str
    state: str
    owner: int | None
    team: int | None
    counts: Mapping[str, int]
    origin: int  # the turn of its first sortie
    mission_lines: str  # the two lines of the mission itself
    buckets: dict[int, Bucket]
    rows: dict[str, Row]  # of the sorties that were read, by key
    context: Context
    unchanged: Mapping[int, Part] = field(default_factory=dict)
    workspace: CurrentWorkspace | None = None

    @property
    def ref(self) -> str:
        return ids.encode(ids.MISSION, self.id)

    @property
    def state_lines(self) -> dict[str, str]:
        """The state lines of the sorties that were read, by key."""
        return {key: line for bucket in self.buckets.values() for key, line in bucket.state.items()}

    @property
    def kept_lines(self) -> dict[str, str]:
        """The kept lines of the sorties that were read, by key."""
        return {key: line for bucket in self.buckets.values() for key, line in bucket.kept.items()}

    @property
    def running(self) -> dict[str, UUID]:
        """The running sorties among those that were read, by key."""
        return {key: row.id for key, row in self.rows.items() if row.state == SortieState.RUNNING}

    def add_uncommitted(self, works: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the uncommitted work of attempts that still run to their lines."""
        for key in works.keys() & self.running.keys():
            kept = self.buckets[bucket_of(key)].kept
            if self.workspace is not None and json.loads(kept[key])["attempt"] == works[key]["attempt"]:
                kept[key] = workspaces.with_uncommitted(self.workspace, key, kept[key], works[key])

    def digest(self) -> str:
        """The digest of the mission's whole state: that of its entry, without making the blobs."""
        unchanged = {number: part.digest for number, part in self.unchanged.items()}
        read = {number: bucket.digest() for number, bucket in self.buckets.items()}
        return combined_digest(mission=self._digest_of_own_line(), buckets={**unchanged, **read})

    def _digest_of_own_line(self) -> str:
        return hashlib.sha256(self.mission_lines.partition("\n")[0].encode()).hexdigest()

    def entry(self, contents: dict[str, bytes]) -> MissionEntry:
        """Return the mission's entry in a manifest, and add its blobs to `contents`."""
        parts = dict(self.unchanged)
        for number, bucket in self.buckets.items():
            parts[number] = add_part(bucket.text().encode(), contents, digest=bucket.digest())
        return MissionEntry(
            id=self.ref,
            name=self.name,
            state=self.state,
            counts=self.counts,
            mission=add_part(self.mission_lines.encode(), contents, digest=self._digest_of_own_line()),
            buckets=parts,
        )


@contextmanager
def snapshot() -> Iterator[str]:
    """Run a block in which all reads see the same rows; yields the `pg_snapshot` of that state.

    It takes no transaction id, so it never holds up readers of the event stream.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield current_snapshot()


def current_snapshot() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        return str(cursor.fetchone()[0])


def refresh(current: CurrentMission, *, since: str) -> CurrentMission:
    """Read again what may have changed in a mission that was read in full in the snapshot `since`."""
    changed = _changed_sorties(current.id, since) if current.workspace is None else None
    if changed is None:
        return mission(current.id)
    newest = _read_mission(current.id)
    newest.buckets, newest.rows = current.buckets, current.rows
    _read_sorties(newest, changed, parent=None)
    return newest


def mission(mission: UUID, *, parent: MissionEntry | None = None, since: str = "") -> CurrentMission:
    """Read a mission. With `parent` and its snapshot `since`, read only the buckets that may have changed since then.

    Raises NotFound if the mission's rows are gone; storage.CheckpointDamaged if a blob of the parent cannot be read.
    """
    current = _read_mission(mission)
    # Not every change of a workspace is an event of its sortie, so these missions are always read in full.
    changed = _changed_sorties(mission, since) if parent and current.workspace is None else None
    if parent is None or changed is None:
        _read_sorties(current, None, parent=None)
        return current
    _read_sorties(current, changed, parent=parent)
    current.unchanged = {number: part for number, part in parent.buckets.items() if number not in current.buckets}
    return current


def _read_mission(mission: UUID) -> CurrentMission:
    """The mission without its sorties."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints.rows", "mission"), {"mission": mission})
        row = cursor.fetchone()
    if row is None:
        raise errors.NotFound(f"There is no mission {ids.encode(ids.MISSION, mission)}.")
    state_line, kept_line, name, state, owner, team, counts_json, origin, has_workspace = row
    workspace = workspaces.read(mission) if has_workspace else None
    if workspace is not None:
        state_line, kept_line = workspaces.mission_lines(workspace, state_line, kept_line)
    counts = json.loads(counts_json)
    return CurrentMission(
        id=mission,
        name=name,
        state=state,
        owner=owner,
        team=team,
        counts=counts,
        origin=origin,
        mission_lines=f"{state_line}\n{kept_line}\n",
        buckets={},
        rows={},
        context=context.of_mission(mission, counts=counts, has_workspace=has_workspace),
        workspace=workspace,
    )


def _changed_sorties(mission: UUID, since: str) -> list[UUID] | None:
    """The sorties that may have changed since a snapshot; None if all of them must be read again."""
    if int(since.split(":")[1]) > int(current_snapshot().split(":")[1]):
        return None  # the snapshot comes from another database cluster, whose transaction ids are ahead of this one's
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints.rows", "changed_since"), {"mission": mission, "since": since})
        events = cursor.fetchall()
    if any(kind in ("mission.changed", "checkpoint.restored") for _, kind in events):
        return None
    return [subject for subject, kind in events if kind.startswith("sortie.")]


def _read_sorties(current: CurrentMission, sorties: Sequence[UUID] | None, *, parent: MissionEntry | None) -> None:
    """Read these sorties (None: all) into the buckets. With a parent, each bucket starts with the parent's lines."""
    parameters = {
        "mission": current.id,
        "sorties": None if sorties is None else list(sorties),
        "origin": current.origin,
    }
    with connection.cursor() as cursor:
        for key, state, kept, sortie, row_state in _rows(cursor, parameters):
            if current.workspace is not None:
                state, kept = workspaces.sortie_lines(current.workspace, key, state, kept)
            number = bucket_of(key)
            bucket = current.buckets.get(number)
            if bucket is None:
                blob = parent.buckets.get(number) if parent else None
                bucket = current.buckets[number] = storage.read_bucket(blob) if blob else Bucket()
            bucket.state[key], bucket.kept[key] = state, kept
            current.rows[key] = Row(sortie, row_state)


def _rows(cursor: Any, parameters: Mapping[str, Any]) -> Iterator[tuple[str, str, str, UUID, str]]:
    """The sorties as `sorties.sql` returns them. All of a mission are read while Postgres produces them."""
    statement = statements.read("checkpoints.rows", "sorties")
    if parameters["sorties"] is None:
        with connection.wrap_database_errors:
            yield from cursor.cursor.stream(statement, parameters, size=CHUNK)
    else:
        cursor.execute(statement, parameters)
        yield from cursor.fetchall()


def fleet() -> bytes:
    """The agent types, with the number of agents that each should have, and the concurrency limits, as JSON."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints.rows", "fleet"))
        return str(cursor.fetchone()[0]).encode()


def add_part(data: bytes, contents: dict[str, bytes], *, digest: str = "") -> Part:
    """Add this content to `contents`, and return its part. `digest` defaults to the SHA-256 of the content."""
    blob = hashlib.sha256(data).hexdigest()
    contents[blob] = data
    return Part(blob, len(data), digest or blob)
