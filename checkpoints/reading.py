"""Read missions from the rows, as the text that a checkpoint stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from checkpoints import context, storage
from checkpoints.context import Context
from checkpoints.document import Bucket, MissionEntry, Part, bucket_of, buckets
from fleet import errors, ids
from fleet.postgres import statements


@dataclass(slots=True, kw_only=True)
class MissionText:
    """A mission as text. `buckets` are those that were read: all of them, or those that differ from the parent's."""

    id: UUID
    name: str
    state: str
    owner: int | None
    team: int | None
    counts: Mapping[str, int]
    own: str  # the two lines of the mission itself
    buckets: dict[int, Bucket]
    rows: dict[str, UUID]  # the ids of the sorties that were read, by key
    context: Context
    unchanged: Mapping[int, Part] = field(default_factory=dict)

    def entry(self, contents: dict[str, bytes]) -> MissionEntry:
        """The mission's entry in a manifest; adds its contents to those to be stored."""
        parts = dict(self.unchanged)
        for number, bucket in self.buckets.items():
            parts[number] = _part(bucket.text(), bucket.digest(), contents)
        own_state = self.own.partition("\n")[0]
        return MissionEntry(
            id=ids.encode(ids.MISSION, self.id),
            name=self.name,
            state=self.state,
            counts=self.counts,
            mission=_part(self.own, hashlib.sha256(own_state.encode()).hexdigest(), contents),
            buckets=parts,
        )


@contextmanager
def snapshot() -> Iterator[str]:
    """A block in which all reads see the same rows; its value is Postgres's name of that state.

    Takes no transaction id, so it never holds up readers of the event stream.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield current_snapshot()


def current_snapshot() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        return str(cursor.fetchone()[0])


def mission(mission: UUID, *, parent: MissionEntry | None = None, since: str = "") -> MissionText:
    """Read a mission. With the `parent` and its snapshot, only the buckets that may have changed `since`.

    NotFound if the mission's rows are gone. Storage's `Damaged` if a blob of the parent cannot be read.
    """
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints", "mission"), {"mission": mission})
        row = cursor.fetchone()
    if row is None:
        raise errors.NotFound(f"There is no mission {ids.encode(ids.MISSION, mission)}.")
    state_line, kept_line, name, state, owner, team, counted = row
    counts = json.loads(counted)
    text = MissionText(
        id=mission,
        name=name,
        state=state,
        owner=owner,
        team=team,
        counts=counts,
        own=f"{state_line}\n{kept_line}\n",
        buckets={},
        rows={},
        context=context.of_mission(mission, counts=counts),
    )
    changed = _changed(mission, since) if parent else None
    if parent is None or changed is None:
        _read_sorties(text, None, parent=None)
        return text
    _read_sorties(text, changed, parent=parent)
    text.unchanged = {number: part for number, part in parent.buckets.items() if number not in text.buckets}
    return text


def _changed(mission: UUID, since: str) -> list[UUID] | None:
    """The sorties that may have changed since a snapshot; None if all of them must be read again."""
    if int(since.split(":")[1]) > int(current_snapshot().split(":")[1]):
        return None  # it was taken in another database cluster, whose transactions were numbered further
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints", "changed_since"), {"mission": mission, "since": since})
        events = cursor.fetchall()
    if any(kind in ("mission.changed", "checkpoint.restored") for _, kind in events):
        return None
    return [subject for subject, kind in events if kind.startswith("sortie.")]


def _read_sorties(text: MissionText, sorties: Sequence[UUID] | None, *, parent: MissionEntry | None) -> None:
    """Read these sorties, by default all, into the buckets; with a parent, into its buckets."""
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {"mission": text.id, "sorties": None if sorties is None else list(sorties)}
        cursor.execute(statements.read("checkpoints", "sorties"), parameters)
        for state, kept, sortie in cursor.fetchall():
            key = buckets.key_of(state)
            number = bucket_of(key)
            bucket = text.buckets.get(number)
            if bucket is None:
                part = parent.buckets.get(number) if parent else None
                bucket = text.buckets[number] = Bucket.parse(storage.read(part)) if part else Bucket()
            bucket.state[key], bucket.kept[key] = state, kept
            text.rows[key] = sortie


def fleet() -> bytes:
    """The agent types with the agents that are wanted, and the limits of concurrency keys, as JSON."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints", "fleet"))
        return str(cursor.fetchone()[0]).encode()


def extra(data: bytes, contents: dict[str, bytes]) -> Part:
    """A part without sorties; adds its content to those to be stored."""
    blob = hashlib.sha256(data).hexdigest()
    contents[blob] = data
    return Part(blob, len(data), blob)


def _part(text: str, digest: str, contents: dict[str, bytes]) -> Part:
    data = text.encode()
    blob = hashlib.sha256(data).hexdigest()
    contents[blob] = data
    return Part(blob, len(data), digest)
