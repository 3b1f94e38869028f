"""Verify: read every byte of checkpoints, and name what is damaged and which checkpoints share it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from checkpoints import document
from checkpoints.document import CheckpointManifest
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from fleet.postgres import locks
from fleet.postgres.locks import Lock
from missions.artifacts import collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A damaged or missing file. `shared_by` lists the checkpoints that it belongs to."""

    message: str
    shared_by: tuple[str, ...]


def verify(*, checkpoints: Collection[Checkpoint]) -> list[Damage]:
    """Read every file of these checkpoints. An empty list means that all of them can be restored."""
    with locks.session(Lock.CHECKPOINTS, shared=True):
        damages: list[Damage] = []
        manifests: list[CheckpointManifest] = []
        for checkpoint in checkpoints:
            try:
                manifests.append(_manifest(checkpoint))
            except storage.CheckpointDamaged as error:
                damages.append(Damage(message=error.message, shared_by=(checkpoint.ref,)))
        refs_by_blob = _refs_by_blob()
        checked: set[str] = set()
        missing: dict[str, list[str]] = defaultdict(list)
        for manifest in manifests:
            for message, blob in _problems(manifest, checked, missing):
                damages.append(Damage(message=message, shared_by=tuple(refs_by_blob[blob]) or (manifest.id,)))
        for message, blobs in missing.items():
            refs = {ref for blob in blobs for ref in refs_by_blob[blob]}
            damages.append(Damage(message=message, shared_by=tuple(sorted(refs))))
        return damages


def _manifest(checkpoint: Checkpoint) -> CheckpointManifest:
    manifest = storage.read_manifest(checkpoint.ref)
    if hashlib.sha256(document.serialize(manifest)).hexdigest() != checkpoint.digest:
        raise storage.CheckpointDamaged(
            f"The manifest of {checkpoint.ref} was replaced: its SHA-256 does not match the database."
        )
    return manifest


def _problems(
    manifest: CheckpointManifest, checked: set[str], missing: dict[str, list[str]]
) -> Iterator[tuple[str, str]]:
    """The problems of a checkpoint's blobs: (message, blob). Reads each blob once.

    Adds lost artifacts to `missing`: the message, and the blobs that name the artifact.
    """
    for entry in manifest.missions:
        for part in [entry.mission, *entry.buckets.values()]:
            if part.blob in checked:
                continue
            checked.add(part.blob)
            try:
                is_bucket = part is not entry.mission
                lines = storage.read_bucket(part).state.values() if is_bucket else [storage.read(part)]
            except storage.CheckpointDamaged as error:
                yield error.message, part.blob
                continue
            for line in lines if is_bucket else []:
                for artifact in json.loads(line)["artifacts"]:
                    if not collection.has(artifact["digest"]):
                        message = (
                            f"The bytes of the artifact {artifact['path']} ({artifact['digest'][:12]}…) are missing."
                        )
                        missing[message].append(part.blob)
    for extra in (manifest.fleet, manifest.context):
        if extra is not None and extra.blob not in checked:
            checked.add(extra.blob)
            try:
                storage.read(extra)
            except storage.CheckpointDamaged as error:
                yield error.message, extra.blob


def _refs_by_blob() -> dict[str, list[str]]:
    """The checkpoints that contain each blob, as far as their manifests can be read."""
    refs: dict[str, list[str]] = defaultdict(list)
    for ref in sorted(storage.manifests()):
        try:
            for part in storage.read_manifest(ref).parts:
                refs[part.blob].append(ref)
        except storage.CheckpointDamaged:
            continue
    return refs
