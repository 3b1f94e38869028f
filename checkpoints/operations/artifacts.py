"""The artifacts that checkpoints name.

Their bytes stay in the store as long as a checkpoint or an attempt names them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from checkpoints.files import storage
from checkpoints.models import Checkpoint


def in_use(digests: Collection[str]) -> set[str]:
    """The artifacts among these that a checkpoint names; all of them if a checkpoint is damaged."""
    unused = set(digests)
    read_blobs: set[str] = set()
    try:
        for ref in storage.manifests():
            for entry in storage.read_manifest(ref).missions:
                for part in entry.buckets.values():
                    if unused and part.blob not in read_blobs:
                        read_blobs.add(part.blob)
                        content = storage.read(part)
                        unused -= {digest for digest in unused if digest in content}
    except storage.CheckpointDamaged:
        return set(digests)
    return set(digests) - unused


def referenced_by(checkpoints: Iterable[Checkpoint]) -> set[str]:
    """The digests of all artifacts that these checkpoints name, as far as their files can be read."""
    digests: set[str] = set()
    read_blobs: set[str] = set()
    for checkpoint in checkpoints:
        try:
            for entry in storage.read_manifest(checkpoint.ref).missions:
                for part in entry.buckets.values():
                    if part.blob not in read_blobs:
                        read_blobs.add(part.blob)
                        lines = storage.read_bucket(part).state.values()
                        digests |= {artifact["digest"] for line in lines for artifact in json.loads(line)["artifacts"]}
        except storage.CheckpointDamaged:
            continue
    return digests
