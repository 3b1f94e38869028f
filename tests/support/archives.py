"""Exported checkpoints in memory: to take apart, to change, and to seal again as a liar would."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from checkpoints import operations
from checkpoints.document import Bucket, Manifest, Part, archive, bucket_of
from checkpoints.models import Checkpoint

LIMIT = 1 << 40

Change = Callable[[dict[str, Any]], object]


def exported(checkpoint: Checkpoint, *, artifacts: bool = False) -> bytes:
    out = io.BytesIO()
    operations.export(checkpoint=checkpoint, out=out, artifacts=artifacts)
    return out.getvalue()


def names(data: bytes) -> list[str]:
    """The members, as Python's tar reads them."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


@dataclass(slots=True)
class Opened:
    """An exported file, taken apart. `sealed` writes it with digests that fit whatever was changed."""

    manifest: Manifest
    own: list[str]
    state: dict[str, str]
    kept: dict[str, str]
    artifacts: dict[str, bytes]

    @classmethod
    def of(cls, data: bytes) -> Opened:
        reader = archive.Reader(io.BytesIO(data), max_bytes=LIMIT, max_content=LIMIT)
        manifest, entry = reader.entry()
        own, *buckets = (reader.blob(part) for part in archive.parts(entry))
        state: dict[str, str] = {}
        kept: dict[str, str] = {}
        artifacts: dict[str, bytes] = {}
        for bucket in map(Bucket.parse, buckets):
            state |= bucket.state
            kept |= bucket.kept
        sizes = {file["digest"]: file["size"] for line in state.values() for file in json.loads(line)["artifacts"]}
        reader.artifacts(sizes, lambda digest, chunks: artifacts.update({digest: b"".join(chunks)}))
        return cls(manifest, own.splitlines(), state, kept, artifacts)

    def change(self, key: str, change: Change) -> None:
        """Change a sortie's state."""
        self.state[key] = _changed(self.state[key], change)

    def change_kept(self, key: str, change: Change) -> None:
        self.kept[key] = _changed(self.kept[key], change)

    def change_mission(self, change: Change, *, line: int = 0) -> None:
        data = json.loads(self.own[line])
        change(data)
        self.own[line] = _text(data)

    def sealed(self) -> bytes:
        out = io.BytesIO()
        writer = archive.Writer(out)
        buckets: dict[int, Bucket] = {}
        for key, line in self.state.items():
            bucket = buckets.setdefault(bucket_of(key), Bucket())
            bucket.state[key], bucket.kept[key] = line, self.kept[key]
        own = "".join(f"{line}\n" for line in self.own)
        contents = {number: bucket.text() for number, bucket in sorted(buckets.items())}
        parts = {number: part(text, buckets[number].digest()) for number, text in contents.items()}
        (entry,) = self.manifest.missions
        entry = replace(entry, mission=part(own, sha256(self.own[0])), buckets=parts)
        writer.manifest(replace(self.manifest, missions=(entry,)))
        writer.blob(entry.mission, own.encode())
        for number, text in contents.items():
            writer.blob(parts[number], text.encode())
        for digest, content in sorted(self.artifacts.items()):
            writer.artifact(digest, len(content), [content])
        writer.close()
        return out.getvalue()


def part(text: str, digest: str) -> Part:
    return Part(sha256(text), len(text.encode()), digest)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _changed(line: str, change: Change) -> str:
    """The line with a change, in the form in which Postgres writes it: no spaces at the top, and jsonb's below."""
    data = json.loads(line)
    change(data)
    return "{" + ",".join(f"{json.dumps(name)}:{_text(value)}" for name, value in data.items()) + "}"


def _text(value: Any) -> str:
    """JSON as jsonb writes it; escaped where it could not be encoded."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
