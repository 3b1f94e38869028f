"""Go along the chain from its first seal and find what does not agree: something removed, changed, reordered or put in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from django.db.models import BooleanField, Case, Q, When
from django.db.models.functions import Now

from fleet.audit import chain, sealing
from fleet.audit.chain import Leaf, Position
from fleet.audit.models import Entry, Seal

UNSEALED_S = 60.0  # the control loop seals within a second; what waits for longer has been forgotten, or unsealed
PAGE = 2_000
SHOWN = 20  # that are named one by one
Kind = Literal["entry", "seal"]
What = Literal["removed", "changed", "reordered", "inserted", "unsealed", "forged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that does not agree, and where."""

    of: Kind
    number: int  # the entry's id, or the seal's number
    what: What
    said: str


@dataclass(slots=True, kw_only=True)
class Report:
    seals: int = 0
    entries: int = 0  # that are sealed and agree
    waiting: int = 0  # that are too young to be sealed
    number: int = 0  # of the last seal
    digest: str = chain.START  # and its digest: kept elsewhere, it proves later that nothing up to here was cut off
    faults: list[Fault] = field(default_factory=list)


def verify(*, unsealed_s: float = UNSEALED_S, heads: Iterable[tuple[int, str]] = ()) -> Report:
    """Look at everything. `heads` are numbers and digests of seals that were kept elsewhere earlier."""
    walk = _Walk(heads)
    forged = Case(
        When(cluster=sealing.here()[0], last_xid__gte=sealing.NEXT, then=True),
        default=False,
        output_field=BooleanField(),
    )
    for seal in Seal.objects.annotate(forged=forged).order_by("number").iterator(chunk_size=100):
        walk.pass_by(seal, forged=seal.forged)
    walk.end(unsealed_s)
    return walk.report


class _Walk:
    def __init__(self, heads: Iterable[tuple[int, str]]) -> None:
        self.report = Report()
        self._heads: dict[int, set[str]] = {}
        for number, digest in heads:
            self._heads.setdefault(number, set()).add(digest)
        self._reached: dict[int, Position] = {}  # by cluster: where the last seal that can be believed ends
        self._ends: dict[int, Position] = {}  # and where the last one does
        self._entries: dict[int, _Entries] = {}
        self._unsure = (
            False  # whether a seal is missing or not to be believed, so that the next one's start is not known
        )

    def find(self, of: Kind, number: int, what: What, said: str) -> None:
        self.report.faults.append(Fault(of=of, number=number, what=what, said=said))

    def pass_by(self, seal: Seal, *, forged: bool) -> None:
        report, number = self.report, seal.number
        follows = self._follows(seal)
        true = chain.digest(seal) == seal.digest and len(seal.leaves) == 40 * seal.count
        if not true:
            self.find("seal", number, "changed", f"Seal {number} is not as it was made.")
        elif not follows:
            before = f"seal {report.number} as it is now" if report.number else "the start"
            self.find("seal", number, "changed", f"Seal {number} does not follow {before}: one of the two was changed.")
        if self._heads.get(number, {seal.digest}) != {seal.digest}:
            self.find("seal", number, "changed", f"Seal {number} is not the one that was told earlier.")
        report.seals, report.number, report.digest = report.seals + 1, number, seal.digest
        if forged:
            self.find(
                "seal", number, "forged",
                f"Seal {number} is forged: it claims transaction {seal.last_xid}, which this cluster has not reached.",
            )  # fmt: skip
            return
        self._ends[seal.cluster] = Position(seal.last_xid, seal.last_id)
        if true:
            self._compare(seal)
        else:  # nothing that it says can be held against its entries
            self._lose()

    def _follows(self, seal: Seal) -> bool:
        """Whether it can be the next one; True where seals between are missing, which is said."""
        missing = range(self.report.number + 1, seal.number)
        for number in missing[:SHOWN]:
            self.find("seal", number, "removed", f"Seal {number} is missing.")
        if len(missing) > SHOWN:
            self.find("seal", missing[-1], "removed", f"Seals {missing[SHOWN]} to {missing[-1]} are missing.")
        if missing:
            self._lose()
        return bool(missing) or seal.previous == self.report.digest

    def _lose(self) -> None:
        self._reached.clear()
        self._unsure = True

    def _compare(self, seal: Seal) -> None:
        first = Position(seal.first_xid, seal.first_id - 1) if self._unsure else Position()
        last = Position(seal.last_xid, seal.last_id)
        if seal.cluster not in self._entries:
            self._entries[seal.cluster] = _Entries(seal.cluster)
        there = self._entries[seal.cluster].take(after=self._reached.get(seal.cluster, first), until=last)
        faults = list(_differences(seal, list(chain.unpacked(bytes(seal.leaves))), there))
        self.report.faults += faults
        self.report.entries += seal.count - sum(fault.what != "inserted" for fault in faults)
        self._reached[seal.cluster] = last

    def end(self, unsealed_s: float) -> None:
        """Look at what no seal reaches, and at seals that were told earlier and do not come."""
        for number in sorted(self._heads):
            if number > self.report.number:
                ends = f"the chain ends at {self.report.number}"
                self.find("seal", number, "removed", f"Seal {number} was told earlier, and {ends}.")
        behind = ~Q(cluster__in=list(self._ends))
        for cluster, position in self._ends.items():
            behind |= Q(chain.after(position), cluster=cluster)
        running = Q(cluster=sealing.here()[0], xid__gte=sealing.SETTLED, xid__lt=sealing.NEXT)
        young = Q(at__gte=Now() - timedelta(seconds=unsealed_s))
        left = Entry.objects.filter(behind)
        forgotten = list(left.exclude(running | young).order_by("id").values_list("id", flat=True)[: SHOWN + 1])
        self.report.waiting = left.filter(running | young).count()
        for id in forgotten[:SHOWN]:
            self.find(
                "entry", id, "unsealed", f"Entry {id} is in no seal. Either nothing seals, or its seal was removed."
            )
        if len(forgotten) > SHOWN:
            self.find("entry", forgotten[-1], "unsealed", f"Entry {forgotten[-1]} and others after it are in no seal.")


class _Entries:
    """The entries of one cluster in the order of the chain, each read once, a page at a time."""

    def __init__(self, cluster: int) -> None:
        self._rows = self._read(cluster)
        self._next = next(self._rows, None)

    def take(self, *, after: Position, until: Position) -> list[Leaf]:
        """Those behind the one place and up to the other. What lies before them is passed over for good."""
        taken = []
        while self._next is not None and (place := chain.place(self._next)) <= until:
            if place > after:
                taken.append(chain.leaf(self._next))
            self._next = next(self._rows, None)
        return taken

    def _read(self, cluster: int) -> Iterator[tuple[Any, ...]]:
        reached = Position()
        entries = Entry.objects.filter(cluster=cluster)
        while page := list(chain.rows(entries.filter(chain.after(reached)))[:PAGE]):
            yield from page
            reached = chain.place(page[-1])


def _differences(seal: Seal, sealed: list[Leaf], there: list[Leaf]) -> Iterator[Fault]:
    """What is wrong with the entries of one seal. `there` is what lies between the end of the one before and its own."""
    known, found = dict(sealed), dict(there)
    elsewhere = set(Entry.objects.filter(id__in=known.keys() - found.keys()).values_list("id", flat=True))
    before = [leaf.id for leaf in sealed if leaf.id in found]
    now = [leaf.id for leaf in there if leaf.id in known]
    moved = {one for one, other in zip(before, now, strict=True) if one != other} | elsewhere
    inside = f"(seal {seal.number})"
    for id, digest in sealed:
        if id in moved:
            yield Fault(of="entry", number=id, what="reordered", said=f"Entry {id} stands at another place {inside}.")
        elif id not in found:
            yield Fault(of="entry", number=id, what="removed", said=f"Entry {id} is missing {inside}.")
        elif found[id] != digest:
            yield Fault(of="entry", number=id, what="changed", said=f"Entry {id} is not as it was written {inside}.")
    for id in sorted(found.keys() - known.keys()):
        yield Fault(of="entry", number=id, what="inserted", said=f"Entry {id} was put in afterwards {inside}.")
