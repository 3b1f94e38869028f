"""What is hashed, and how: pure functions, so that anybody can do the sums again from an export.

An entry's leaf is the SHA-256 of a JSON array of its columns in the order of COLUMNS: numbers as such, the time in UTC with
microseconds (ISO 8601), the three JSON columns as the text that Postgres writes of them; no spaces, ASCII only.
A seal's digest is the SHA-256 of a JSON array: its number, time, cluster, first_xid, first_id, last_xid, last_id, count, the
SHA-256 of its leaves (hex), and the digest of the seal before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast

from fleet.audit.models import Entry, Seal

START = "0" * 64  # what the first seal follows
COLUMNS = (
    "id", "cluster", "xid", "at", "kind", "outcome", "actor", "user_id", "address", "request", "subject",
    "before", "after", "data",
)  # fmt: skip
_JSON = ("before", "after", "data")
_WIDTH = 8 + 32


class Position(NamedTuple):
    """A place in the order in which a cluster's entries are sealed: its transaction first, for ids are drawn before commit
    and a small one may be seen after a larger one."""

    xid: int = 0
    id: int = 0


class Leaf(NamedTuple):
    id: int
    digest: bytes


def rows(entries: QuerySet[Entry]) -> QuerySet[Entry, tuple[Any, ...]]:
    """COLUMNS of these entries, in the order of the chain."""
    texts = {f"{name}_text": Cast(name, TextField()) for name in _JSON}
    names = [f"{name}_text" if name in _JSON else name for name in COLUMNS]
    return entries.annotate(**texts).order_by("xid", "id").values_list(*names)


def after(position: Position) -> Q:
    """Entries behind this place. (The first condition is for the planner, which sees no range in the second.)"""
    return Q(xid__gte=position.xid) & (Q(xid__gt=position.xid) | Q(xid=position.xid, id__gt=position.id))


def place(row: Sequence[Any]) -> Position:
    """Of one of `rows`."""
    return Position(row[2], row[0])


def leaf(row: Sequence[Any]) -> Leaf:
    """Of one of `rows`."""
    return Leaf(row[0], hashlib.sha256(_canonical(row)).digest())


def packed(leaves: Sequence[Leaf]) -> bytes:
    """As Seal.leaves holds them."""
    return b"".join(one.id.to_bytes(8, "big") + one.digest for one in leaves)


def unpacked(held: bytes) -> Iterator[Leaf]:
    for at in range(0, len(held) - _WIDTH + 1, _WIDTH):
        yield Leaf(int.from_bytes(held[at : at + 8], "big"), held[at + 8 : at + _WIDTH])


def digest(seal: Seal) -> str:
    """Of a seal, by all that it says but its digest."""
    inside = hashlib.sha256(seal.leaves).hexdigest()
    place = (seal.number, seal.at, seal.cluster)
    span = (seal.first_xid, seal.first_id, seal.last_xid, seal.last_id, seal.count)
    return hashlib.sha256(_canonical((*place, *span, inside, seal.previous))).hexdigest()


def _canonical(parts: Sequence[Any]) -> bytes:
    written = [
        one.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(one, datetime) else one for one in parts
    ]
    return json.dumps(written, separators=(",", ":"), ensure_ascii=True).encode("ascii")
