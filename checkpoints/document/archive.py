"""The container: one mission's checkpoint as one file, which `tar` lists and unpacks.

An uncompressed tar (POSIX ustar) with these members, in this order:

    manifest.json             the manifest, of exactly one mission
    blobs/<sha256>.zst        the mission's own part, then its buckets by number
    commits/<sha256>.bundle   if the mission has commits: those that its base does not have, as a git bundle
    artifacts/<sha256>        optional: the bytes of artifacts, by digest

It has no times, owners or links, so equal checkpoints are equal files.

The reader trusts nothing. It computes the header that each member must have and compares all 512 bytes, so a file has
no room for links, devices, paths, further members or attributes; one that was repacked with `tar` is refused. Every
size is checked before anything is read or decompressed. Writer and reader hold at most one blob in memory.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import zstandard

from checkpoints.document import manifest as manifests
from checkpoints.document.buckets import Malformed
from checkpoints.document.manifest import CheckpointManifest, MissionEntry, Part
from fleet.streams import Readable, Writable

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000  # one mission has at most 257 parts of about 150 bytes
MAX_MEMBER_BYTES = 8**11 - 1  # a tar header has eleven octal digits for the size
LEVEL = 3

_BLOCK = 512
_CHUNK = 1 << 20
_SIZE = slice(124, 136)  # of a header
_OCTAL = re.compile(rb"[0-7]{11}\0")
_ARTIFACT = re.compile(r"artifacts/([0-9a-f]{64})")
_COMMITS = re.compile(r"commits/([0-9a-f]{64})\.bundle")


class Writer:
    """Writes a container to `out`.

    Call, in this order, `manifest`, `blob` for each part, `commits` if the mission has any, `artifact` for each, and
    `close`.
    """

    def __init__(self, out: Writable) -> None:
        self._out = out
        self.bytes = 0

    def manifest(self, manifest: CheckpointManifest) -> None:
        data = manifests.serialize(manifest)
        self._write_member(MANIFEST, data, len(data))

    def blob(self, part: Part, content: bytes) -> None:
        data = zstandard.ZstdCompressor(level=LEVEL).compress(content)
        self._write_member(_blob_name(part), data, len(data))

    def commits(self, digest: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write the bundle of commits. Errors as for `artifact`."""
        self._write_member(f"commits/{digest}.bundle", chunks, size)

    def artifact(self, digest: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write an artifact. Raises Malformed if the chunks do not add up to `size`; the container is then unusable."""
        self._write_member(f"artifacts/{digest}", chunks, size)

    def close(self) -> None:
        self._write(bytes(2 * _BLOCK))

    def _write_member(self, name: str, data: bytes | Iterable[bytes], size: int) -> None:
        self._write(_header(name, size))
        written = 0
        for chunk in [data] if isinstance(data, bytes) else data:
            self._write(chunk)
            written += len(chunk)
        if written != size:
            raise Malformed(f"{name} has {written:,} bytes instead of {size:,}")
        self._write(bytes(-size % _BLOCK))

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self.bytes += len(data)


class ArchiveReader:
    """Reads a container.

    Call, in this order, `entry`, `blob` for each of its parts in their order, `commits` if the mission has any, and
    `artifacts`. Every method raises Malformed for anything that a Writer would not have written. `max_bytes` limits the
    size of the file, and `max_content` the uncompressed size of all blobs.
    """

    def __init__(self, file: Readable, *, max_bytes: int, max_content: int) -> None:
        self._file, self._remaining, self._max_content = file, max_bytes, max_content

    def entry(self) -> tuple[CheckpointManifest, MissionEntry]:
        """The manifest and its only mission."""
        size = self._size(self._read_header(MANIFEST), MANIFEST, MAX_MANIFEST_BYTES)
        data = self._body(size)
        try:
            manifest = manifests.parse(data)
            canonical = manifests.serialize(manifest)
        except Malformed:
            raise
        except (ValueError, TypeError, OverflowError) as error:  # an unpaired surrogate, for example
            raise Malformed("its manifest has values that cannot be serialized") from error
        if canonical != data:
            raise Malformed("its manifest is not canonical JSON")
        if len(manifest.missions) != 1 or manifest.fleet or manifest.context:
            raise Malformed("it does not consist of exactly one mission")
        (entry,) = manifest.missions
        if not all(type(part.bytes) is int for part in entry.parts):
            raise Malformed("its manifest has a size that is not an integer")  # 1.0, which its schema allows
        if len({part.blob for part in entry.parts}) != len(entry.parts):
            raise Malformed("its manifest names a blob twice")
        if (total := sum(part.bytes for part in entry.parts)) > self._max_content:
            raise Malformed(f"its content has {total:,} bytes; at most {self._max_content:,} are allowed")
        return manifest, entry

    def blob(self, part: Part) -> str:
        """The text of a blob, checked against its SHA-256."""
        name = _blob_name(part)
        limit = part.bytes + part.bytes // 128 + 1_024  # above zstd's bound for any content (ZSTD_COMPRESSBOUND)
        compressed = self._body(self._size(self._read_header(name), name, limit))
        try:
            # `decompress` allocates what the frame claims, so the claim is checked first.
            if zstandard.frame_content_size(compressed) != part.bytes:
                raise Malformed(f"{name} does not contain {part.bytes:,} bytes")
            content = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress(
                compressed, max_output_size=part.bytes, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise Malformed(f"{name} is not compressed with zstd, or incomplete") from error
        if len(content) != part.bytes or hashlib.sha256(content).hexdigest() != part.blob:
            raise Malformed(f"the SHA-256 of {name} does not match")
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"{name} is not UTF-8") from error

    def commits(self, store: Callable[[Iterator[bytes]], None]) -> None:
        """Pass the bundle of commits to `store`, and check its SHA-256 afterwards."""
        header = self._read(_BLOCK)
        name = header[:100].rstrip(b"\0").decode("ascii", "replace")
        match = _COMMITS.fullmatch(name)
        if match is None:
            raise Malformed("the commits of its workspace are missing or out of order")
        self._store(match[1], name, self._size(header, name, MAX_MEMBER_BYTES), store)

    def artifacts(self, expected: Mapping[str, int], store: Callable[[str, Iterator[bytes]], None]) -> None:
        """Pass the artifacts in the file to `store`, by digest, and check that the file ends after them.

        `expected` has the sizes of those that the mission names. An artifact is checked only after `store` has read
        all of it, so `store` must not publish anything before this method returns.
        """
        last = ""
        while (header := self._read(_BLOCK)) != bytes(_BLOCK):
            name = header[:100].rstrip(b"\0").decode("ascii", "replace")
            match = _ARTIFACT.fullmatch(name)
            if match is None or (digest := match[1]) not in expected or digest <= last:
                raise Malformed("it has an unexpected member")
            last = digest
            if (size := self._size(header, name, MAX_MEMBER_BYTES)) != expected[digest]:
                raise Malformed(f"{name} does not have the size that its sortie states")
            self._store(digest, name, size, partial(store, digest))
        if self._read(_BLOCK) != bytes(_BLOCK) or self._file.read(1):
            raise Malformed("there are bytes after its end")

    def _store(self, digest: str, name: str, size: int, store: Callable[[Iterator[bytes]], None]) -> None:
        actual = hashlib.sha256()
        store(self._chunks(size, actual.update))
        if actual.hexdigest() != digest:
            raise Malformed(f"the SHA-256 of {name} does not match")

    def _read_header(self, name: str) -> bytes:
        header = self._read(_BLOCK)
        if not header.startswith(name.encode() + b"\0"):
            raise Malformed(f"{name} is missing or out of order")
        return header

    def _size(self, header: bytes, name: str, limit: int) -> int:
        """The size of a member. Raises Malformed unless its header is exactly what a Writer would write."""
        if not _OCTAL.fullmatch(header[_SIZE]):
            raise Malformed(f"the header of {name} does not have the form that a fleet writes")
        size = int(header[_SIZE][:11], 8)
        if header != _header(name, size):
            raise Malformed(f"the header of {name} does not have the form that a fleet writes")
        if size > limit:
            raise Malformed(f"{name} has {size:,} bytes; at most {limit:,} are allowed")
        return size

    def _body(self, size: int) -> bytes:
        return b"".join(self._chunks(size))

    def _chunks(self, size: int, update: Callable[[bytes], object] = lambda chunk: None) -> Iterator[bytes]:
        if size > self._remaining:
            raise Malformed("it is larger than the allowed size")
        padding = -size % _BLOCK
        while size:
            chunk = self._read(min(size, _CHUNK))
            update(chunk)
            size -= len(chunk)
            yield chunk
        if any(self._read(padding)):
            raise Malformed("there are bytes between its members")

    def _read(self, size: int) -> bytes:
        """Exactly this many bytes."""
        if size > self._remaining:
            raise Malformed("it is larger than the allowed size")
        self._remaining -= size
        data = bytearray()
        while len(data) < size:
            chunk = self._file.read(size - len(data))
            if not chunk:
                raise Malformed("it is incomplete")
            data += chunk
        return bytes(data)


def parts(entry: MissionEntry) -> list[Part]:
    """The parts of a mission in the order of the container: its own, then its buckets by number."""
    return [entry.mission, *(part for _, part in sorted(entry.buckets.items()))]


def _blob_name(part: Part) -> str:
    return f"blobs/{part.blob}.zst"


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(format=tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")
