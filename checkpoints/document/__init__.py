"""The format of a checkpoint: a manifest, and blobs named by their SHA-256.

`manifest` and `buckets` define these two; `archive` is the container in which a mission moves to another fleet.
`*.schema.json` are the published schemas. Everything in `checkpoints` may use this package. It is pure: it imports
neither Django nor another part of `checkpoints`.
"""

from checkpoints.document.buckets import Bucket, bucket_of, combined_digest
from checkpoints.document.manifest import ENDED, FORMAT, CheckpointManifest, MissionEntry, Part, parse, serialize

__all__ = [
    "ENDED",
    "FORMAT",
    "Bucket",
    "CheckpointManifest",
    "MissionEntry",
    "Part",
    "bucket_of",
    "combined_digest",
    "parse",
    "serialize",
]
