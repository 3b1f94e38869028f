"""Loads a mission from a checkpoint's files, checking every byte."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from checkpoints.document import CheckpointManifest, MissionEntry, Part
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from fleet import errors, ids


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMission:
    """A mission in a checkpoint: its own two lines, and the lines of its sorties by key."""

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


def mission_entry(manifest: CheckpointManifest, mission: UUID | None) -> MissionEntry:
    """The entry of a mission; if that is None, the only one. Raises NotFound, or Invalid if there are several."""
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
    """Read a mission from a checkpoint. If the checkpoint is damaged, the error names the newest intact one."""
    with naming_alternative(checkpoint, mission):
        return load(mission_entry(storage.read_manifest(checkpoint.ref), mission))


@contextmanager
def naming_alternative(checkpoint: Checkpoint, mission: UUID | None) -> Iterator[None]:
    """Run a block; if it finds a file of the checkpoint damaged, the error names the newest intact checkpoint."""
    try:
        yield
    except storage.CheckpointDamaged as error:
        alternative = newest_intact(mission=mission or checkpoint.missions[0], except_for=checkpoint)
        raise storage.CheckpointDamaged(
            f"{checkpoint.ref} is damaged, so nothing was changed. {error.message}",
            hint=f"The newest intact checkpoint of the mission is {alternative.ref}."
            if alternative
            else "The mission has no intact checkpoint.",
        ) from error


def newest_intact(*, mission: UUID, except_for: Checkpoint | None = None) -> Checkpoint | None:
    """The newest checkpoint of a mission that can be restored. The caller holds the lock of checkpoints."""
    candidates = Checkpoint.objects.filter(missions__contains=[mission]).order_by("-id")
    if except_for is not None:
        candidates = candidates.exclude(id=except_for.id)
    for candidate in candidates.iterator():
        try:
            load(mission_entry(storage.read_manifest(candidate.ref), mission))
        except storage.CheckpointDamaged:
            continue
        return candidate
    return None


def load(entry: MissionEntry, *, excluding: Mapping[int, Part] = MappingProxyType({})) -> SavedMission:
    """Read a mission, without the buckets that equal those in `excluding`.

    Raises CheckpointDamaged if a blob is missing, was changed, or does not match the manifest.
    """
    state: dict[str, str] = {}
    kept: dict[str, str] = {}
    for number, part in entry.buckets.items():
        if excluding.get(number) == part:
            continue
        bucket = storage.read_bucket(part)
        state |= bucket.state
        kept |= bucket.kept
    return SavedMission(entry=entry, mission_lines=storage.read(entry.mission), state=state, kept=kept)
