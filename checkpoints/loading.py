"""Load a mission from a checkpoint's files, checking every byte."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from checkpoints import storage
from checkpoints.document import Bucket, Manifest, MissionEntry, Part
from checkpoints.models import Checkpoint
from fleet import errors, ids
from missions.models import Mission
from missions.queries import reads
from missions.states import MissionState


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMission:
    """A mission as a checkpoint has it: the two lines of its own, and the lines of its sorties by key."""

    entry: MissionEntry
    own: str
    state: dict[str, str]
    kept: dict[str, str]

    @property
    def id(self) -> UUID:
        return ids.decode(ids.MISSION, self.entry.id)

    @property
    def own_state(self) -> dict[str, Any]:
        return dict(json.loads(self.own.split("\n")[0]))

    @property
    def own_kept(self) -> dict[str, Any]:
        return dict(json.loads(self.own.split("\n")[1]))


def entry(manifest: Manifest, mission: UUID | None) -> MissionEntry:
    """A mission's entry; without a mission, the only one. NotFound, or Invalid if there are several."""
    if mission is None:
        if len(manifest.missions) != 1:
            names = ", ".join(found.id for found in manifest.missions)
            raise errors.Invalid(
                f"{manifest.id} contains several missions: {names}.",
                hint="Name one with --mission.",
                over_http="Name one as `mission`.",
            )
        return manifest.missions[0]
    ref = ids.encode(ids.MISSION, mission)
    for found in manifest.missions:
        if found.id == ref:
            return found
    raise errors.NotFound(f"{manifest.id} does not contain {ref}.")


def load_intact(checkpoint: Checkpoint, mission: UUID | None) -> SavedMission:
    """Read a mission from a checkpoint. Damaged if that is damaged; the error names the newest one that is not."""
    try:
        return load(entry(storage.read_manifest(checkpoint.ref), mission))
    except storage.Damaged as fault:
        other = newest_intact(mission=mission or checkpoint.missions[0], except_for=checkpoint)
        raise storage.Damaged(
            f"{checkpoint.ref} is damaged, and nothing was changed. {fault.message}",
            hint=f"The newest intact checkpoint of the mission is {other.ref}." if other else "It has no other one.",
        ) from fault


def newest_intact(*, mission: UUID, except_for: Checkpoint | None = None) -> Checkpoint | None:
    """The newest checkpoint of a mission that can be restored. The caller holds the lock of checkpoints."""
    candidates = Checkpoint.objects.filter(missions__contains=[mission]).order_by("-id")
    if except_for is not None:
        candidates = candidates.exclude(id=except_for.id)
    for candidate in candidates.iterator():
        try:
            load(entry(storage.read_manifest(candidate.ref), mission))
        except storage.Damaged:
            continue
        return candidate
    return None


def load(entry: MissionEntry) -> SavedMission:
    """Read a mission. Damaged if a blob is missing, was changed, or is not what the manifest says it is."""
    state: dict[str, str] = {}
    kept: dict[str, str] = {}
    for part in entry.buckets.values():
        bucket = read_bucket(part)
        state |= bucket.state
        kept |= bucket.kept
    return SavedMission(entry=entry, own=storage.read(entry.mission), state=state, kept=kept)


def read_bucket(part: Part) -> Bucket:
    """Read a bucket of sorties. Damaged if its blob is missing, was changed, or is something else."""
    try:
        bucket = Bucket.parse(storage.read(part))
    except ValueError as fault:
        raise storage.Damaged(f"The blob {part.blob[:12]}… is not a bucket of sorties: {fault}.") from fault
    if bucket.digest() != part.digest:
        raise storage.Damaged(f"The digest of the blob {part.blob[:12]}… is not the one in the manifest.")
    return bucket


def mission_id(text: str) -> UUID:
    """The id of a mission, which may have no rows any more if the id is given in full."""
    return ids.decode(ids.MISSION, text) if text.startswith(f"{ids.MISSION}_") else reads.find(text).id


def missions_without_rows() -> list[UUID]:
    """The missions that checkpoints have and the database has not."""
    known = {mission for missions in Checkpoint.objects.values_list("missions", flat=True) for mission in missions}
    return sorted(known - set(Mission.objects.filter(id__in=known).values_list("id", flat=True)))


def was_live(mission: UUID) -> bool:
    """Whether a mission had not ended in its newest intact checkpoint."""
    checkpoint = newest_intact(mission=mission)
    return (
        checkpoint is not None and not MissionState(entry(storage.read_manifest(checkpoint.ref), mission).state).final
    )


def find(text: str) -> Checkpoint:
    """The checkpoint with this id (`chk_…`), end of an id, or name, or the `latest`. NotFound; Conflict if several."""
    checkpoints = Checkpoint.objects.order_by("-id")
    if text == "latest":
        matches = list(checkpoints[:1])
    elif text.startswith(f"{ids.CHECKPOINT}_"):
        matches = list(checkpoints.filter(id=ids.decode(ids.CHECKPOINT, text)))
    else:
        matches = list(checkpoints.filter(name=text)[:2])
        if not matches and len(text) >= 4:
            recent = checkpoints.values_list("id", flat=True)[:1_000]
            ending = [id for id in recent if ids.encode(ids.CHECKPOINT, id).endswith(text)]
            matches = list(checkpoints.filter(id__in=ending[:2]))
    if not matches:
        raise errors.NotFound(f"There is no checkpoint {text!r}.", hint="See the list of checkpoints.")
    if len(matches) > 1:
        raise errors.Conflict(f"Several checkpoints match {text!r}.", hint="Give the id.")
    return matches[0]
