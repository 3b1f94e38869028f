"""Load a mission from a checkpoint's files, checking every byte."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from checkpoints import storage
from checkpoints.document import Manifest, MissionEntry, Part
from checkpoints.models import Checkpoint
from fleet import errors, ids
from missions.models import Mission
from missions.queries import reads
from missions.states import MissionState


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMission:
    """A mission as a checkpoint has it: its own two lines, and the lines of its sorties by key."""

    entry: MissionEntry
    mission_lines: str
    state: dict[str, str]
    kept: dict[str, str]

    @property
    def id(self) -> UUID:
        return ids.decode(ids.MISSION, self.entry.id)

    @property
    def has_workspace(self) -> bool:
        return "workspace" in self.mission_state

    @property
    def mission_state(self) -> dict[str, Any]:
        return dict(json.loads(self.mission_lines.split("\n")[0]))

    @property
    def mission_kept(self) -> dict[str, Any]:
        return dict(json.loads(self.mission_lines.split("\n")[1]))


def mission_entry(manifest: Manifest, mission: UUID | None) -> MissionEntry:
    """The entry of a mission, by default the only one. NotFound if it has no entry; Invalid if one must be named."""
    if mission is None:
        if len(manifest.missions) != 1:
            names = ", ".join(entry.id for entry in manifest.missions)
            raise errors.Invalid(
                f"{manifest.id} contains several missions: {names}.",
                hint="Name one with --mission.",
                over_http="Name one as `mission`.",
            )
        return manifest.missions[0]
    ref = ids.encode(ids.MISSION, mission)
    for entry in manifest.missions:
        if entry.id == ref:
            return entry
    raise errors.NotFound(f"{manifest.id} does not contain {ref}.")


def load_intact(checkpoint: Checkpoint, mission: UUID | None) -> SavedMission:
    """Read a mission from a checkpoint. If it is damaged, the error names the newest intact checkpoint."""
    with naming_alternative(checkpoint, mission):
        return load(mission_entry(storage.read_manifest(checkpoint.ref), mission))


@contextmanager
def naming_alternative(checkpoint: Checkpoint, mission: UUID | None) -> Iterator[None]:
    """If a file of the checkpoint turns out to be damaged, let the error name the newest intact one."""
    try:
        yield
    except storage.Damaged as fault:
        alternative = newest_intact(mission=mission or checkpoint.missions[0], except_for=checkpoint)
        raise storage.Damaged(
            f"{checkpoint.ref} is damaged, so nothing was changed. {fault.message}",
            hint=f"The newest intact checkpoint of the mission is {alternative.ref}."
            if alternative
            else "The mission has no intact checkpoint.",
        ) from fault


def newest_intact(*, mission: UUID, except_for: Checkpoint | None = None) -> Checkpoint | None:
    """The newest checkpoint of a mission that can be restored. The caller holds the lock of checkpoints."""
    candidates = Checkpoint.objects.filter(missions__contains=[mission]).order_by("-id")
    if except_for is not None:
        candidates = candidates.exclude(id=except_for.id)
    for candidate in candidates.iterator():
        try:
            load(mission_entry(storage.read_manifest(candidate.ref), mission))
        except storage.Damaged:
            continue
        return candidate
    return None


def load(entry: MissionEntry, *, unlike: Mapping[int, Part] = MappingProxyType({})) -> SavedMission:
    """Read a mission, without buckets that are equal to those of `unlike`.

    Damaged if a blob is missing, was changed, or is not what the manifest says it is.
    """
    state: dict[str, str] = {}
    kept: dict[str, str] = {}
    for number, part in entry.buckets.items():
        if unlike.get(number) == part:
            continue
        bucket = storage.read_bucket(part)
        state |= bucket.state
        kept |= bucket.kept
    return SavedMission(entry=entry, mission_lines=storage.read(entry.mission), state=state, kept=kept)


def mission_id(reference: str | None) -> UUID | None:
    """The id of a mission; None without a reference. A mission whose rows are gone must be named by its full id."""
    if not reference:
        return None
    return ids.decode(ids.MISSION, reference) if reference.startswith(f"{ids.MISSION}_") else reads.find(reference).id


def missions_without_rows() -> list[UUID]:
    """The missions that have checkpoints and no rows."""
    known = {mission for missions in Checkpoint.objects.values_list("missions", flat=True) for mission in missions}
    return sorted(known - set(Mission.objects.filter(id__in=known).values_list("id", flat=True)))


def was_live(mission: UUID) -> bool:
    """Whether a mission had not ended in its newest intact checkpoint."""
    checkpoint = newest_intact(mission=mission)
    if checkpoint is None:
        return False
    return not MissionState(mission_entry(storage.read_manifest(checkpoint.ref), mission).state).final


def find(reference: str) -> Checkpoint:
    """Find a checkpoint by its id (`chk_…`), the end of its id, its name or `latest`. NotFound; Conflict if several."""
    checkpoints = Checkpoint.objects.order_by("-id")
    if reference == "latest":
        matches = list(checkpoints[:1])
    elif reference.startswith(f"{ids.CHECKPOINT}_"):
        matches = list(checkpoints.filter(id=ids.decode(ids.CHECKPOINT, reference)))
    else:
        matches = list(checkpoints.filter(name=reference)[:2])
        if not matches and len(reference) >= 4:
            recent = checkpoints.values_list("id", flat=True)[:1_000]
            matching = [id for id in recent if ids.encode(ids.CHECKPOINT, id).endswith(reference)]
            matches = list(checkpoints.filter(id__in=matching[:2]))
    if not matches:
        raise errors.NotFound(f"There is no checkpoint {reference!r}.", hint="See the list of checkpoints.")
    if len(matches) > 1:
        raise errors.Conflict(f"Several checkpoints match {reference!r}.", hint="Use the id instead.")
    return matches[0]
