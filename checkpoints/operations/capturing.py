"""Capture: write a checkpoint of missions while they run."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from checkpoints import context, document, reading, storage
from checkpoints.document import Manifest
from checkpoints.models import Checkpoint
from checkpoints.reading import MissionText
from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.postgres import locks
from fleet.postgres.locks import Lock
from missions.models import Mission
from missions.states import MissionState

FINAL_MISSION_STATES = [state for state in MissionState if state.final]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def capture(
    *,
    missions: Sequence[UUID],
    trigger: str = Checkpoint.Trigger.REQUEST,
    name: str = "",
    note: str = "",
    keep: bool = False,
    fleet: bool = False,
    by: User | None = None,
) -> Checkpoint:
    """Write a checkpoint of these missions, as they are in one moment. They keep running.

    `fleet`: also of the agent types, the agents that are wanted, and the limits of concurrency keys.

    NotFound if a mission's rows are gone, Conflict if one is being cancelled, Unavailable if the disk is full.
    """
    with locks.session(Lock.CHECKPOINTS, shared=True):
        with reading.snapshot() as snapshot:
            texts = [read(mission) for mission in missions]
            fleet_data = reading.fleet() if fleet else None
        for text in texts:
            if text.state == "cancelling":
                raise errors.Conflict(
                    f"The mission {text.name} is being cancelled, so it cannot be captured.",
                    hint="Wait until it is cancelled.",
                )
        return store(
            texts=texts,
            snapshot=snapshot,
            fleet=fleet_data,
            trigger=trigger,
            name=name,
            note=note,
            keep=keep,
            by=by,
        )


def capture_all(*, name: str = "", note: str = "", keep: bool = False, by: User | None = None) -> Checkpoint:
    """Write one checkpoint of the fleet: every live mission, the agent types, the wanted agents and the limits."""
    live = Mission.objects.exclude(state__in=[*FINAL_MISSION_STATES, MissionState.CANCELLING]).order_by("id")
    return capture(missions=list(live.values_list("id", flat=True)), name=name, note=note, keep=keep, fleet=True, by=by)


def read(mission: UUID) -> MissionText:
    """Read a mission, only what has changed since its newest checkpoint if that is intact. Call it in a snapshot."""
    parent = newest(mission)
    if parent is None:
        return reading.mission(mission)
    ref = ids.encode(ids.MISSION, mission)
    try:
        (entry,) = (entry for entry in storage.read_manifest(parent.ref).missions if entry.id == ref)
        return reading.mission(mission, parent=entry, since=parent.snapshot)
    except storage.Damaged:
        return reading.mission(mission)


def newest(mission: UUID) -> Checkpoint | None:
    """The newest checkpoint of a mission."""
    return Checkpoint.objects.filter(missions__contains=[mission]).order_by("-id").first()


def store(
    *,
    texts: Sequence[MissionText],
    snapshot: str,
    fleet: bytes | None = None,
    trigger: str,
    name: str = "",
    note: str = "",
    keep: bool = False,
    by: User | None = None,
) -> Checkpoint:
    """Write the files, then the row. The caller holds the lock of checkpoints."""
    id, now = ids.new(), timezone.now()
    parent = newest(texts[0].id) if len(texts) == 1 else None
    contents: dict[str, bytes] = {}
    manifest = Manifest(
        id=ids.encode(ids.CHECKPOINT, id),
        name=name,
        note=note,
        trigger=trigger,
        created_at=now.isoformat(),
        parent=parent.ref if parent else None,
        snapshot=snapshot,
        missions=tuple(text.entry(contents) for text in texts),
        fleet=reading.extra(fleet, contents) if fleet is not None else None,
        context=reading.extra(
            context.encode({ids.encode(ids.MISSION, text.id): text.context for text in texts}), contents
        ),
    )
    with _disk():
        added = storage.add(contents)
        digest = storage.add_manifest(manifest)
    with transaction.atomic():
        row = Checkpoint.objects.create(
            id=id,
            missions=[text.id for text in texts],
            name=name,
            note=note,
            trigger=trigger,
            keep=keep,
            digest=digest,
            snapshot=snapshot,
            parent=parent.id if parent else None,
            sorties=manifest.count(),
            ended=manifest.count("succeeded", "failed", "skipped", "cancelled"),
            failed=manifest.count("failed"),
            bytes=storage.size(part.blob for part in manifest.parts) + len(document.serialize(manifest)),
            new_bytes=added,
            created_by=by,
            owner_id=_common({text.owner for text in texts}) if fleet is None else None,
            team_id=_common({text.team for text in texts}) if fleet is None else None,
            created_at=now,
        )
        for text in texts:
            Event.objects.create(
                kind="checkpoint.created",
                scope=text.id,
                subject=id,
                data={"checkpoint": row.ref, "trigger": trigger, "sorties": row.sorties},
            )
        audit.record(
            kind="checkpoint.create",
            subject=row.ref,
            after={"missions": [ids.encode(ids.MISSION, text.id) for text in texts], "trigger": trigger, "name": name},
        )
    return row


def _common(owners: set[int | None]) -> int | None:
    """The owner (or team) of all missions of a checkpoint; None if they differ."""
    return owners.pop() if len(owners) == 1 else None


def store_contents(texts: Sequence[MissionText]) -> None:
    """Write the blobs of missions ahead of a capture, which then has to write only what has changed since."""
    contents: dict[str, bytes] = {}
    for text in texts:
        text.entry(contents)
    with _disk():
        storage.add(contents)


@contextmanager
def _disk() -> Iterator[None]:
    """Unavailable, with what to do, if the disk does not take the files."""
    try:
        yield
    except OSError as fault:
        full = fault.errno in FULL
        raise errors.Unavailable(
            f"The checkpoint could not be written: {fault.strerror or fault}.",
            hint="Free disk space, or name another folder with FLEET_CHECKPOINTS."
            if full
            else "Check the folder that FLEET_CHECKPOINTS names.",
        ) from fault
