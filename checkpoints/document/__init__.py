"""The format of a checkpoint: a manifest, and blobs named by the SHA-256 of their content. Pure: no Django, no files."""

from checkpoints.document.buckets import Bucket, bucket_of
from checkpoints.document.manifest import FORMAT, Manifest, MissionEntry, Part, parse, serialize

__all__ = ["FORMAT", "Bucket", "Manifest", "MissionEntry", "Part", "bucket_of", "parse", "serialize"]
