"""Export a mission of a checkpoint as one file.

Whoever can read the file can read all of the mission, secrets included.
`checkpoints.document.archive` defines the format of the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from uuid import UUID

from django.db import transaction

from checkpoints.document import Bucket, CheckpointManifest, MissionEntry, archive
from checkpoints.files import loading, storage
from checkpoints.models import Checkpoint
from checkpoints.operations.transfer import workspaces
from checkpoints.operations.transfer.spooling import BundleSpool
from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.streams import Writable
from missions.artifacts import collection
from missions.models import Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What an export wrote.

    `commit_bytes` are those of the commits of a workspace. `missing` lists the artifacts that are missing from the store,
    as `sortie: path`.
    """

    mission: str
    bytes: int
    sorties: int
    commit_bytes: int
    artifacts: int
    missing: tuple[str, ...]


def export(
    *, checkpoint: Checkpoint, out: Writable, mission: UUID | None = None, artifacts: bool = False
) -> ExportResult:
    """Write a mission of a checkpoint to `out`, with `artifacts` also the stored bytes of its artifacts.

    For a mission with a workspace, the file also has the commits that its base does not have.

    The same checkpoint always gives the same bytes, for commits with the same git. At most one blob is in memory. Takes
    no lock, because a slow reader would hold up every capture; if the checkpoint is deleted meanwhile, the export fails.

    Raises Conflict if commits are missing from the fleet's mirror, before anything is written. Raises CheckpointDamaged
    if a file of the checkpoint is missing or was changed; `out` then has an incomplete file, which no import accepts.
    Raises Invalid if the checkpoint has several missions and `mission` is None.
    """
    manifest = storage.read_manifest(checkpoint.ref)
    entry = loading.mission_entry(manifest, mission)
    entry = replace(entry, buckets=dict(sorted(entry.buckets.items())))
    with workspaces.exported(entry) as bundle:
        _record_export(checkpoint, entry, artifacts=artifacts)
        return _write(manifest, entry, bundle, out=out, artifacts=artifacts)


def _write(
    manifest: CheckpointManifest, entry: MissionEntry, bundle: BundleSpool | None, *, out: Writable, artifacts: bool
) -> ExportResult:
    writer = archive.Writer(out)
    writer.manifest(replace(manifest, missions=(entry,), parent=None, fleet=None, context=None))
    sizes: dict[str, int] = {}
    names: dict[str, str] = {}
    for part in archive.parts(entry):
        text = storage.read(part)
        writer.blob(part, text.encode())
        if artifacts and part is not entry.mission:
            for key, line in Bucket.parse(text).state.items():
                for file in json.loads(line)["artifacts"]:
                    sizes[file["digest"]] = file["size"]
                    names.setdefault(file["digest"], f"{key}: {file['path']}")
    if bundle is not None:
        writer.commits(bundle.digest, bundle.bytes, bundle.chunks())
    missing = [name for digest, name in sorted(names.items()) if not _export_artifact(writer, digest, sizes[digest])]
    writer.close()
    return ExportResult(
        mission=entry.id,
        bytes=writer.bytes,
        sorties=sum(entry.counts.values()),
        commit_bytes=bundle.bytes if bundle is not None else 0,
        artifacts=len(sizes) - len(missing),
        missing=tuple(missing),
    )


def _record_export(checkpoint: Checkpoint, entry: MissionEntry, *, artifacts: bool) -> None:
    """Record an export before its first byte leaves, because an interrupted export has revealed something too."""
    with transaction.atomic():
        Event.objects.create(
            kind="checkpoint.exported",
            scope=ids.decode(ids.MISSION, entry.id),
            subject=checkpoint.id,
            data={"checkpoint": checkpoint.ref, "artifacts": artifacts},
        )
        audit.record(
            kind="checkpoint.export", subject=checkpoint.ref, after={"mission": entry.id, "artifacts": artifacts}
        )


def _export_artifact(writer: archive.Writer, digest: str, size: int) -> bool:
    """Write an artifact. Returns False if it is missing from the store or was changed."""
    try:
        file = collection.open_stored(Artifact(digest=digest, path=digest))
    except errors.NotFound:
        return False
    with file:
        if file.size != size or size > archive.MAX_MEMBER_BYTES:
            return False
        writer.artifact(digest, size, file.chunks(collection.CHUNK_BYTES))
    return True
