"""Defines what is hashed and how, in pure functions, so that anyone can verify the chain from an export.

The leaf of an entry is the SHA-256 of a JSON array of its columns in the order of COLUMNS: numbers as numbers, the time
in UTC with microseconds (ISO 8601), the three JSON columns as the text that Postgres returns; no spaces, ASCII only.
The digest of a seal is the SHA-256 of a JSON array: its number, time, cluster, first_xid, first_id, last_xid, last_id,
count, the SHA-256 of its leaves (hex), and the digest of the previous seal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from fleet.audit.models import Entry, Seal
from fleet.postgres.commit_order import Position

START = "0" * 64  # the previous digest of the first seal
COLUMNS = (
    "id", "cluster", "xid", "at", "kind", "outcome", "actor", "user_id", "address", "request", "subject",
    "before", "after", "data",
)  # fmt: skip
_JSON = ("before", "after", "data")
LEAF_BYTES = 8 + 32  # the id of an entry and the SHA-256, in Seal.leaves


class Leaf(NamedTuple):
    id: int
    digest: bytes


def rows(entries: QuerySet[Entry]) -> QuerySet[Entry, tuple[Any, ...]]:
    """Return the COLUMNS of these entries, in the order of the chain."""
    texts = {f"{name}_text": Cast(name, TextField()) for name in _JSON}
    names = [f"{name}_text" if name in _JSON else name for name in COLUMNS]
    return entries.annotate(**texts).order_by("xid", "id").values_list(*names)


def position(row: Sequence[Any]) -> Position:
    """Return the position of a row of `rows`."""
    return Position(row[2], row[0])


def leaf(row: Sequence[Any]) -> Leaf:
    """Return the leaf of a row of `rows`."""
    return Leaf(row[0], hashlib.sha256(_canonical(row)).digest())


def pack_leaves(leaves: Sequence[Leaf]) -> bytes:
    """Encode leaves as Seal.leaves stores them."""
    return b"".join(leaf.id.to_bytes(8, "big") + leaf.digest for leaf in leaves)


def unpack_leaves(data: bytes) -> Iterator[Leaf]:
    """Decode Seal.leaves."""
    for start in range(0, len(data) - LEAF_BYTES + 1, LEAF_BYTES):
        yield Leaf(int.from_bytes(data[start : start + 8], "big"), data[start + 8 : start + LEAF_BYTES])


def digest(seal: Seal) -> str:
    """Compute the digest of a seal from its other columns."""
    leaves = hashlib.sha256(seal.leaves).hexdigest()
    identity = (seal.number, seal.at, seal.cluster)
    span = (seal.first_xid, seal.first_id, seal.last_xid, seal.last_id, seal.count)
    return hashlib.sha256(_canonical((*identity, *span, leaves, seal.previous))).hexdigest()


def _canonical(parts: Sequence[Any]) -> bytes:
    values = [
        part.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(part, datetime) else part
        for part in parts
    ]
    return json.dumps(values, separators=(",", ":"), ensure_ascii=True).encode("ascii")
