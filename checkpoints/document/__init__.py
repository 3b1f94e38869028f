"""The format of a checkpoint: a manifest, and blobs named by their SHA-256. Pure: no Django, no files."""

from checkpoints.document.buckets import Bucket, bucket_of
from checkpoints.document.manifest import ENDED, FORMAT, Manifest, MissionEntry, Part, parse, serialize

__all__ = ["ENDED", "FORMAT", "Bucket", "Manifest", "MissionEntry", "Part", "bucket_of", "parse", "serialize"]
