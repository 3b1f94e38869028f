"""The content of a blob: the lines of the sorties whose keys fall into one bucket.

A blob is text: one line of JSON per sortie with its state, sorted by key; an empty line; and, in the same order, one
line per sortie with what is kept beside the state. Only the state lines count for the digest. Lines are compared and
stored as text, so numbers keep their exact form.

A sortie's bucket is the first byte of the SHA-256 of its key, so ten changed sorties change at most ten blobs.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_SEPARATOR = "\n\n"  # between the states and what is kept
_START = '{"key":'
_PLAIN_START = f'{_START}"'
_PLAIN = re.compile(r"[!#-\[\]-~]+")  # characters that stand for themselves in JSON
_SURROGATE = re.compile("[\ud800-\udfff]")
_decoder = json.JSONDecoder()


class Malformed(ValueError):
    """This is not the content of a checkpoint."""


@dataclass(slots=True)
class Bucket:
    """The lines of one bucket, by key: `state` counts for the digest, `kept` does not."""

    state: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Bucket:
        head, separator, tail = text.partition(_SEPARATOR)
        state, kept = head.split("\n"), tail.rstrip("\n").split("\n")
        if not separator or len(state) != len(kept):
            raise Malformed("a blob of sorties needs as many lines before its empty line as after it")
        keys = _keys_of(state)
        if not all(map(operator.lt, keys, keys[1:])):
            raise Malformed("the sorties of a blob are not sorted by key, or a key occurs twice")
        if _keys_of(kept) != keys:
            raise Malformed("a sortie of a blob does not have two lines")
        return cls(dict(zip(keys, state, strict=True)), dict(zip(keys, kept, strict=True)))

    def text(self) -> str:
        keys = sorted(self.state)
        kept = "\n".join([self.kept[key] for key in keys])
        return f"{self._state_text(keys)}{_SEPARATOR}{kept}\n"

    def digest(self) -> str:
        return hashlib.sha256(self._state_text(sorted(self.state)).encode()).hexdigest()

    def _state_text(self, keys: Iterable[str]) -> str:
        return "\n".join([self.state[key] for key in keys])


def digest_of(text: bytes) -> str:
    """The digest of a bucket whose text has been parsed."""
    return hashlib.sha256(text[: text.index(_SEPARATOR.encode())]).hexdigest()


def bucket_of(key: str) -> int:
    """The number of a sortie's bucket, 0 to 255."""
    return hashlib.sha256(key.encode()).digest()[0]


def _keys_of(lines: list[str]) -> list[str]:
    """The keys of lines. Most keys are plain, and need no parser: a few times as fast."""
    start = len(_START) + 1
    keys = [line[start : line.find('"', start)] for line in lines]
    if all(line.startswith(_PLAIN_START) for line in lines) and _PLAIN.fullmatch("".join(keys)):
        return keys
    return [key_of(line) for line in lines]


def key_of(line: str) -> str:
    """The key of a line, read without parsing the rest of it."""
    if not line.startswith(_START):
        raise Malformed("a line of a sortie does not begin with its key")
    start = len(_START) + 1
    key = line[start : line.find('"', start)]
    if line[start - 1 : start] == '"' and _PLAIN.fullmatch(key):
        return key  # most keys: a few times as fast as parsing them
    try:
        key, _ = _decoder.raw_decode(line, len(_START))
    except (ValueError, RecursionError) as error:
        raise Malformed("the key of a line cannot be read") from error
    if not isinstance(key, str) or _SURROGATE.search(key):
        raise Malformed("the key of a line is not valid text")
    return key


def combined_digest(*, mission: str, buckets: Mapping[int, str]) -> str:
    """The digest of a mission's state, from the digests of its own part and of its buckets."""
    lines = [mission, *(f"{number:02x} {digest}" for number, digest in sorted(buckets.items()))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
