"""The manifest: what a checkpoint consists of, with the SHA-256 of every part and of the whole.

It is canonical JSON (sorted names, no spaces, UTF-8), so equal manifests are equal bytes. `manifest.schema.json` is its
published schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import jsonschema_rs

from checkpoints.document.buckets import Malformed, combined_digest

FORMAT = 1
ENDED = frozenset({"succeeded", "failed", "skipped", "cancelled"})  # states of sorties


@dataclass(frozen=True, slots=True)
class Part:
    """A blob: the SHA-256 of its content, its size, and the digest of its state lines."""

    blob: str
    bytes: int  # of the content
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MissionEntry:
    """One mission of a checkpoint."""

    id: str  # msn_…
    name: str
    state: str
    counts: Mapping[str, int]  # sorties by state
    mission: Part
    buckets: Mapping[int, Part] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of the mission's whole state. Equal states have equal digests, in every fleet."""
        return combined_digest(
            mission=self.mission.digest, buckets={number: part.digest for number, part in self.buckets.items()}
        )

    @property
    def parts(self) -> list[Part]:
        return [self.mission, *self.buckets.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointManifest:
    """A checkpoint: missions captured in one snapshot, and with `--all` also agent types and concurrency limits."""

    id: str  # chk_…
    name: str
    note: str
    trigger: str
    created_at: str
    parent: str | None
    snapshot: str
    missions: tuple[MissionEntry, ...]
    fleet: Part | None = None
    context: Part | None = None  # the recovery context

    @property
    def parts(self) -> list[Part]:
        extra = [part for part in (self.fleet, self.context) if part is not None]
        return [part for mission in self.missions for part in mission.parts] + extra

    def count(self, *states: str) -> int:
        """The number of sorties in these states; without states, of all sorties."""
        return sum(
            number for entry in self.missions for state, number in entry.counts.items() if not states or state in states
        )


def serialize(manifest: CheckpointManifest) -> bytes:
    """The manifest's bytes, with the SHA-256 of everything else under `sha256`."""
    document = _document(manifest)
    return _canonical({**document, "sha256": hashlib.sha256(_canonical(document)).hexdigest()})


def parse(data: bytes) -> CheckpointManifest:
    """Parse a manifest. Raises Malformed if it is not one, was changed, or has a newer format."""
    try:
        document: dict[str, Any] = json.loads(data)
        claimed = document.pop("sha256")
        canonical = _canonical(document)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise Malformed("the manifest is not complete JSON") from error
    if isinstance(version := document.get("format"), int) and version > FORMAT:
        raise Malformed(f"its format {version} is newer than this fleet's ({FORMAT}); upgrade the fleet")
    try:
        _validator().validate(document)
    except jsonschema_rs.ValidationError as error:
        raise Malformed(f"the manifest does not follow its schema: {error.message[:200]}") from error
    if hashlib.sha256(canonical).hexdigest() != claimed:
        raise Malformed("the manifest was changed: its SHA-256 does not match")
    manifest = CheckpointManifest(
        **{name: document[name] for name in ("id", "name", "note", "trigger", "created_at", "parent")},
        snapshot=document["snapshot"],
        missions=tuple(_mission(entry) for entry in document["missions"]),
        fleet=_part(document["fleet"]),
        context=_part(document["context"]),
    )
    for mission, entry in zip(manifest.missions, document["missions"], strict=True):
        if mission.digest != entry["digest"]:
            raise Malformed(f"the digest of {mission.id} does not match its parts")
    return manifest


def _document(manifest: CheckpointManifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": manifest.id,
        "name": manifest.name,
        "note": manifest.note,
        "trigger": manifest.trigger,
        "created_at": manifest.created_at,
        "parent": manifest.parent,
        "snapshot": manifest.snapshot,
        "missions": [
            {
                "id": mission.id,
                "name": mission.name,
                "state": mission.state,
                "counts": dict(mission.counts),
                "digest": mission.digest,
                "mission": _as_list(mission.mission),
                "buckets": {f"{number:02x}": _as_list(part) for number, part in mission.buckets.items()},
            }
            for mission in manifest.missions
        ],
        "fleet": _as_list(manifest.fleet),
        "context": _as_list(manifest.context),
    }


def _as_list(part: Part | None) -> list[Any] | None:
    """A part is a list, because a checkpoint has hundreds of them: `[blob, bytes, digest]`."""
    return None if part is None else [part.blob, part.bytes, part.digest]


def _part(entry: Any) -> Any:
    if entry is None:
        return None
    if not isinstance(entry[1], int):  # JSON Schema takes 1.0 for an integer
        raise Malformed("the size of a blob is not an integer")
    return Part(*entry)


def _mission(entry: Mapping[str, Any]) -> MissionEntry:
    return MissionEntry(
        id=entry["id"],
        name=entry["name"],
        state=entry["state"],
        counts=entry["counts"],
        mission=_part(entry["mission"]),
        buckets={int(number, 16): _part(part) for number, part in entry["buckets"].items()},
    )


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@cache
def _validator() -> Any:
    schema = resources.files("checkpoints.document").joinpath("manifest.schema.json").read_text(encoding="utf-8")
    return jsonschema_rs.validator_for(json.loads(schema))
