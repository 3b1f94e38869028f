"""Exported checkpoints in memory: a test can import them, or open, change and reseal them as an attacker would."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.models import User

from checkpoints import operations
from checkpoints.document import Bucket, CheckpointManifest, Part, archive, bucket_of
from checkpoints.models import Checkpoint
from checkpoints.operations import ImportResult

LIMIT = 1 << 40

Change = Callable[[dict[str, Any]], object]


def export(checkpoint: Checkpoint, *, artifacts: bool = False) -> bytes:
    out = io.BytesIO()
    operations.export(checkpoint=checkpoint, out=out, artifacts=artifacts)
    return out.getvalue()


def member_names(data: bytes) -> list[str]:
    """The names of the members, as Python's tarfile reads them."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


@dataclass(slots=True)
class OpenedExport:
    """The parts of an exported file. `reseal` writes them as a file again, with matching digests."""

    manifest: CheckpointManifest
    mission_lines: list[str]
    state: dict[str, str]
    kept: dict[str, str]
    artifacts: dict[str, bytes]
    commits: bytes  # a git bundle; empty if there is none

    @classmethod
    def of(cls, data: bytes) -> OpenedExport:
        reader = archive.ArchiveReader(io.BytesIO(data), max_bytes=LIMIT, max_content=LIMIT)
        manifest, entry = reader.entry()
        own, *buckets = (reader.blob(part) for part in archive.parts(entry))
        state: dict[str, str] = {}
        kept: dict[str, str] = {}
        artifacts: dict[str, bytes] = {}
        for bucket in map(Bucket.parse, buckets):
            state |= bucket.state
            kept |= bucket.kept
        bundle: list[bytes] = []
        if any(name.startswith("commits/") for name in member_names(data)):
            reader.commits(bundle.extend)
        sizes = {file["digest"]: file["size"] for line in state.values() for file in json.loads(line)["artifacts"]}
        reader.artifacts(sizes, lambda digest, chunks: artifacts.update({digest: b"".join(chunks)}))
        return cls(manifest, own.splitlines(), state, kept, artifacts, b"".join(bundle))

    def change(self, key: str, change: Change) -> None:
        """Change a sortie's state."""
        self.state[key] = _changed(self.state[key], change)

    def change_kept(self, key: str, change: Change) -> None:
        self.kept[key] = _changed(self.kept[key], change)

    def change_mission(self, change: Change, *, line: int = 0) -> None:
        data = json.loads(self.mission_lines[line])
        change(data)
        workspace = data.pop("workspace", None)
        text = _text(data)
        self.mission_lines[line] = text if workspace is None else f'{text[:-1]},"workspace":{_text(workspace)}}}'

    def reseal(self) -> bytes:
        out = io.BytesIO()
        writer = archive.Writer(out)
        buckets: dict[int, Bucket] = {}
        for key, line in self.state.items():
            bucket = buckets.setdefault(bucket_of(key), Bucket())
            bucket.state[key], bucket.kept[key] = line, self.kept[key]
        own = "".join(f"{line}\n" for line in self.mission_lines)
        contents = {number: bucket.text() for number, bucket in sorted(buckets.items())}
        parts = {number: part(text, buckets[number].digest()) for number, text in contents.items()}
        (entry,) = self.manifest.missions
        entry = replace(entry, mission=part(own, sha256(self.mission_lines[0])), buckets=parts)
        writer.manifest(replace(self.manifest, missions=(entry,)))
        writer.blob(entry.mission, own.encode())
        for number, text in contents.items():
            writer.blob(parts[number], text.encode())
        if self.commits:
            writer.commits(hashlib.sha256(self.commits).hexdigest(), len(self.commits), [self.commits])
        for digest, content in sorted(self.artifacts.items()):
            writer.artifact(digest, len(content), [content])
        writer.close()
        return out.getvalue()


def import_bytes(data: bytes, *, by: User | None = None, can_execute: bool = True, **options: Any) -> ImportResult:
    return operations.import_file(file=io.BytesIO(data), by=by, can_execute=can_execute, **options)


def part(text: str, digest: str) -> Part:
    return Part(sha256(text), len(text.encode()), digest)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _changed(line: str, change: Change) -> str:
    """The changed line, as Postgres writes it: no spaces at the top level, and those of jsonb below it."""
    data = json.loads(line)
    change(data)
    return "{" + ",".join(f"{json.dumps(name)}:{_text(value)}" for name, value in data.items()) + "}"


def _text(value: Any) -> str:
    """JSON as jsonb writes it, or escaped if it cannot be encoded."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
