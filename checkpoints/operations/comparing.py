"""Compare a checkpoint with another one, or with the mission as it is now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from checkpoints.document import Part
from checkpoints.files import loading, storage
from checkpoints.models import Checkpoint
from checkpoints.rows import reading
from fleet import ids
from fleet.postgres import locks
from fleet.postgres.locks import Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class SortieDifference:
    """A sortie that differs. `parts` maps each part of its state that differs to its value before and after."""

    key: str
    parts: dict[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What has changed between two states of a mission. `mission` has the parts of the mission itself that differ."""

    mission: dict[str, tuple[Any, Any]]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[SortieDifference, ...]

    @property
    def empty(self) -> bool:
        return not (self.mission or self.added or self.removed or self.changed)

    def as_json(self) -> dict[str, Any]:
        return {
            "mission": {name: list(pair) for name, pair in self.mission.items()},
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": [
                {"key": change.key, "parts": {name: list(pair) for name, pair in change.parts.items()}}
                for change in self.changed
            ],
        }


def diff(*, before: Checkpoint, after: Checkpoint | None, mission: UUID | None = None) -> Difference:
    """Compare a mission in two checkpoints or, if `after` is None, in a checkpoint and in its current rows.

    Raises NotFound if a checkpoint does not contain the mission, or its rows are gone; CheckpointDamaged as a restore
    does.
    """
    with locks.session(Lock.CHECKPOINTS, shared=True):
        unchanged: Mapping[int, Part]  # these buckets need not be compared
        with loading.naming_alternative(before, mission):
            entry = loading.mission_entry(storage.read_manifest(before.ref), mission)
        id = ids.decode(ids.MISSION, entry.id)
        if after is not None:
            with loading.naming_alternative(after, id):
                other = loading.mission_entry(storage.read_manifest(after.ref), id)
                second = loading.load(other, excluding=entry.buckets)
            mission_lines, lines, unchanged = second.mission_lines, second.state, other.buckets
        else:
            with loading.naming_alternative(before, id), reading.snapshot():
                current = reading.mission(id, parent=entry, since=before.snapshot)
            mission_lines, lines, unchanged = current.mission_lines, current.state_lines, current.unchanged
        with loading.naming_alternative(before, id):
            first = loading.load(entry, excluding=unchanged)
    changed = [
        SortieDifference(key=key, parts=_parts(first.state[key], lines[key]))
        for key in sorted(first.state.keys() & lines.keys())
        if first.state[key] != lines[key]
    ]
    return Difference(
        mission=_parts(first.mission_lines.split("\n")[0], mission_lines.split("\n")[0]),
        added=tuple(sorted(lines.keys() - first.state.keys())),
        removed=tuple(sorted(first.state.keys() - lines.keys())),
        changed=tuple(changed),
    )


def _parts(before: str, after: str) -> dict[str, tuple[Any, Any]]:
    if before == after:
        return {}
    first, second = _flat(json.loads(before)), _flat(json.loads(after))
    return {
        name: (first.get(name), second.get(name))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    }


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a state. Those of its workspace are parts of their own: `workspace.tip`, for example."""
    workspace = {f"workspace.{name}": value for name, value in state.get("workspace", {}).items()}
    return {**{name: value for name, value in state.items() if name != "workspace"}, **workspace}
