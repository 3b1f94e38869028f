"""What a checkpoint contains of a mission, and the digest of the mission now."""

from __future__ import annotations

import json

from checkpoints.document import Bucket, CheckpointManifest, bucket_of
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from checkpoints.rows import reading
from missions.models import Mission

DIAMOND = {
    "top": {"with": {"result": {"big": 2**60 + 1, "text": "ü\u2028"}}},
    "left": {"needs": ["top"]},
    "right": {"needs": ["top"], "with": {"fail": "no"}, "allow_failure": True},
    "bottom": {"needs": ["left", "right"]},
}


def manifest(checkpoint: Checkpoint) -> CheckpointManifest:
    return storage.read_manifest(checkpoint.ref)


def sortie(checkpoint: Checkpoint, key: str) -> tuple[dict[str, object], dict[str, object]]:
    """The state of a sortie, and the data that is kept beside it."""
    (entry,) = manifest(checkpoint).missions
    bucket = Bucket.parse(storage.read(entry.buckets[bucket_of(key)]))
    return json.loads(bucket.state[key]), json.loads(bucket.kept[key])


def digest(mission: Mission) -> str:
    """The digest of a mission's rows, read in full."""
    with reading.snapshot():
        return reading.mission(mission.id).digest()


def saved_digest(checkpoint: Checkpoint) -> str:
    """The digest that a checkpoint of one mission has recorded."""
    (entry,) = manifest(checkpoint).missions
    return entry.digest
