"""The files of checkpoints: `<id>/manifest.json.zst` and `blobs/<SHA-256 of the content>.zst`, compressed with zstd.

Checkpoints with the same content share its blob. A file is complete and on disk before anything refers to it.
`zstd -dc FILE | jq` shows either. Manifests of earlier versions are not compressed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zstandard
from django.core.files.storage import storages

from checkpoints import document
from checkpoints.document import Bucket, CheckpointManifest, Part, buckets
from checkpoints.document.buckets import Malformed
from fleet import errors, ids
from missions.artifacts.storage import AtomicFileStorage

LEVEL = 3
WRITERS = 8  # threads, because a flush waits for the disk


class CheckpointDamaged(errors.Conflict):
    """A file of a checkpoint is missing or was changed."""


class Blobs(AtomicFileStorage):
    """Like the storage of artifacts, but a file gets its name only once it is on disk."""

    def add(self, files: Mapping[str, bytes], *, last: str = "") -> None:
        """Save files durably. The file `last` gets its name only once the names of the others are durable."""
        drafts = {name: self.path(f"drafts/{ids.new()}") for name in files}
        for folder in {"drafts", *map(os.path.dirname, files)}:
            self._create(Path(self.path(folder)))

        def write(names: Sequence[str]) -> None:
            for name in names:
                with open(drafts[name], "wb", opener=open_private) as file:
                    file.write(files[name])
                    file.flush()
                    os.fsync(file.fileno())

        names = list(files)
        try:
            with ThreadPoolExecutor(WRITERS) as threads:
                list(threads.map(write, [names[number::WRITERS] for number in range(min(WRITERS, len(names)))]))
                self._publish({name: draft for name, draft in drafts.items() if name != last}, threads)
                self._publish({name: draft for name, draft in drafts.items() if name == last}, threads)
        except BaseException:
            for draft in drafts.values():
                Path(draft).unlink(missing_ok=True)
            raise

    def _publish(self, drafts: Mapping[str, str], threads: ThreadPoolExecutor) -> None:
        """Give drafts their names, and make these names durable."""
        for name, draft in drafts.items():
            os.replace(draft, self.path(name))
        if drafts:
            list(threads.map(self._flush, {".", *map(os.path.dirname, drafts)}))

    def _create(self, folder: Path) -> None:
        """Create one of the store's folders, and those above it, for their owner alone."""
        try:
            folder.stat()
        except FileNotFoundError:
            for path in (Path(self.location).parent, Path(self.location), folder):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _flush(self, folder: str) -> None:
        """Make the names in a folder durable."""
        descriptor = os.open(self.path(folder), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_private(path: str, flags: int) -> int:
    """An `opener` whose new files only their owner can read."""
    return os.open(path, flags, 0o600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What was written for a checkpoint. `digest` is the SHA-256 of the manifest."""

    digest: str
    manifest_bytes: int  # of its file
    blob_bytes: int  # of the new blobs


def add(contents: Mapping[str, bytes]) -> None:
    """Store contents by their SHA-256. Raises OSError if the disk is full."""
    _store().add(_missing(contents))


def add_checkpoint(manifest: CheckpointManifest, contents: Mapping[str, bytes]) -> Added:
    """Store a manifest and its contents by their SHA-256. Raises OSError if the disk is full."""
    data, blobs = document.serialize(manifest), _missing(contents)
    compressed = zstandard.ZstdCompressor(level=LEVEL).compress(data)
    path = manifest_path(manifest.id)
    _store().add({**blobs, path: compressed}, last=path)
    return Added(
        digest=hashlib.sha256(data).hexdigest(),
        manifest_bytes=len(compressed),
        blob_bytes=sum(map(len, blobs.values())),
    )


def _missing(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of those contents that are not stored yet."""
    store, compressor = _store(), zstandard.ZstdCompressor(level=LEVEL)
    return {
        _blob_path(name): compressor.compress(content)
        for name, content in contents.items()
        if not store.exists(_blob_path(name))
    }


def read(part: Part) -> str:
    """The content of a blob, checked against its SHA-256. Raises CheckpointDamaged if it is missing or was changed."""
    return _read(part).decode()


def _read(part: Part) -> bytes:
    try:
        with _store().open(_blob_path(part.blob)) as file:
            data = decompress(file.read(), size=part.bytes)
    except FileNotFoundError as error:
        raise CheckpointDamaged(f"The blob {part.blob[:12]}… is missing.") from error
    except (Malformed, OSError) as error:
        raise CheckpointDamaged(f"The blob {part.blob[:12]}… cannot be read: {error}.") from error
    if hashlib.sha256(data).hexdigest() != part.blob:
        raise CheckpointDamaged(f"The blob {part.blob[:12]}… was changed: its SHA-256 does not match.")
    return data


def read_bucket(part: Part) -> Bucket:
    """Read a bucket of sorties. Raises CheckpointDamaged if its blob is missing, was changed, or is not a bucket."""
    try:
        bucket = Bucket.parse((data := _read(part)).decode())
    except ValueError as error:
        raise CheckpointDamaged(f"The blob {part.blob[:12]}… is not a bucket of sorties: {error}.") from error
    if buckets.digest_of(data) != part.digest:
        raise CheckpointDamaged(f"The digest of the blob {part.blob[:12]}… does not match the manifest.")
    return bucket


def decompress(data: bytes, *, size: int) -> bytes:
    """Decompress a file. Raises Malformed if it is not one frame of zstd that contains exactly `size` bytes."""
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        content = reader.decompress(data) if zstandard.frame_content_size(data) == size else b""
    except zstandard.ZstdError as error:
        raise Malformed("it is not compressed with zstd, or incomplete") from error
    if len(content) != size or not reader.eof or reader.unused_data:
        raise Malformed(f"it is not one frame of {size:,} bytes")
    return content


def read_manifest(ref: str) -> CheckpointManifest:
    """The manifest of a checkpoint. Raises CheckpointDamaged if it is missing or was changed."""
    try:
        manifest = document.parse(_manifest_data(ref))
    except FileNotFoundError as error:
        raise CheckpointDamaged(f"The manifest of {ref} is missing.") from error
    except (Malformed, OSError) as error:
        raise CheckpointDamaged(f"The manifest of {ref} cannot be used: {error}.") from error
    if manifest.id != ref:
        raise CheckpointDamaged(f"The manifest of {ref} belongs to {manifest.id}.")
    return manifest


def _manifest_data(ref: str) -> bytes:
    path = manifest_path(ref)
    with _store().open(path) as file:
        data: bytes = file.read()
    if not path.endswith(".zst"):
        return data
    try:
        size = zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise Malformed("it is not compressed with zstd") from error
    return decompress(data, size=size)


def manifest_size(ref: str) -> int:
    """The bytes that a manifest takes on disk."""
    return int(_store().size(manifest_path(ref)))


def manifest_path(ref: str) -> str:
    """The path of a manifest below the folder of checkpoints. Earlier versions did not compress it."""
    plain = f"{ref}/manifest.json"
    return plain if _store().exists(plain) else f"{plain}.zst"


def size(names: Iterable[str]) -> int:
    """The bytes that these blobs take on disk; missing ones count as 0."""
    folder, total = _store().location, 0
    for name in set(names):  # hundreds: Django's `size` takes most of its time to check each path
        with suppress(FileNotFoundError):
            total += os.stat(f"{folder}/{_blob_path(name)}").st_size
    return total


def manifests() -> Iterator[str]:
    """The ids of the checkpoints whose manifests are stored."""
    yield from (
        ref
        for ref in _folders()
        if re.fullmatch(ids.pattern(ids.CHECKPOINT), ref) and _store().exists(manifest_path(ref))
    )


def _folders() -> Iterator[str]:
    with suppress(FileNotFoundError):
        folders, _ = _store().listdir("")
        yield from (name for name in folders if name.startswith(f"{ids.CHECKPOINT}_"))


def blobs() -> Iterator[str]:
    """The names of all stored blobs."""
    with suppress(FileNotFoundError):
        _, files = _store().listdir("blobs")
        yield from (name.removesuffix(".zst") for name in files)


def sweep() -> None:
    """Remove drafts and empty folders of killed processes. The caller holds the checkpoints lock exclusively."""
    store = _store()
    store.sweep()
    for ref in _folders():
        if not store.exists(manifest_path(ref)):
            with suppress(OSError):
                store.delete(ref)


def remove_manifest(ref: str) -> None:
    store = _store()
    store.delete(manifest_path(ref))
    with suppress(OSError):
        store.delete(ref)  # the folder


def remove_blob(name: str) -> None:
    _store().delete(_blob_path(name))


def _store() -> Blobs:
    store = storages["checkpoints"]
    assert isinstance(store, Blobs)
    return store


def _blob_path(name: str) -> str:
    return f"blobs/{name}.zst"
