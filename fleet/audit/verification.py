"""Verifies the chain from its first seal: finds entries and seals that were removed, changed, reordered or inserted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from django.db.models import BooleanField, Case, Q, When
from django.db.models.functions import Now

from fleet.audit import chain, sealing
from fleet.audit.chain import Leaf
from fleet.audit.models import Entry, Seal
from fleet.postgres import commit_order
from fleet.postgres.commit_order import Position

UNSEALED_S = 60.0  # the control loop seals within a second; an older entry was missed, or its seal was removed
PAGE = 2_000
MAX_LISTED = 20  # problems of one kind that are listed individually
Kind = Literal["entry", "seal"]
Problem = Literal["removed", "changed", "reordered", "inserted", "unsealed", "forged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditProblem:
    """An entry or a seal that does not match the chain."""

    record: Kind
    number: int  # the entry's id, or the seal's number
    problem: Problem
    message: str  # a sentence for people


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """The findings of a verification."""

    seals: int = 0
    entries: int = 0  # sealed entries that match their seal
    waiting: int = 0  # entries too young to be sealed
    number: int = 0  # of the last seal
    digest: str = chain.START  # of the last seal; a copy of it elsewhere proves later that the chain was not cut off
    problems: list[AuditProblem] = field(default_factory=list)


def verify(*, unsealed_s: float = UNSEALED_S, heads: Iterable[tuple[int, str]] = ()) -> AuditReport:
    """Verify the whole trail. `heads` are numbers and digests of earlier seals that were kept elsewhere."""
    verifier = _Verifier(heads)
    forged = Case(
        When(cluster=sealing.cluster_and_time()[0], last_xid__gte=commit_order.NEXT_XID, then=True),
        default=False,
        output_field=BooleanField(),
    )
    for seal in Seal.objects.annotate(forged=forged).order_by("number").iterator(chunk_size=100):
        verifier.check_seal(seal, forged=seal.forged)
    verifier.check_end(unsealed_s)
    return verifier.report


class _Verifier:
    """Checks the seals one after the other and collects the problems in `report`."""

    def __init__(self, heads: Iterable[tuple[int, str]]) -> None:
        self.report = AuditReport()
        self._heads: dict[int, set[str]] = {}
        for number, digest in heads:
            self._heads.setdefault(number, set()).add(digest)
        self._compared_until: dict[int, Position] = {}  # by cluster, where the last credible seal ends
        self._ends: dict[int, Position] = {}  # by cluster, where the last seal ends
        self._entries: dict[int, _Entries] = {}
        self._gap = False  # a seal was missing or not credible, so the start of the next one is unknown

    def _add_problem(self, record: Kind, number: int, problem: Problem, text: str) -> None:
        self.report.problems.append(AuditProblem(record=record, number=number, problem=problem, message=text))

    def check_seal(self, seal: Seal, *, forged: bool) -> None:
        report, number = self.report, seal.number
        follows = self._follows(seal)
        intact = chain.digest(seal) == seal.digest and len(seal.leaves) == chain.LEAF_BYTES * seal.count
        if not intact:
            self._add_problem("seal", number, "changed", f"Seal {number} was changed: its digest does not match.")
        elif not follows:
            before = f"seal {report.number}" if report.number else "the start of the chain"
            self._add_problem(
                "seal", number, "changed", f"Seal {number} does not follow {before}: one of them was changed."
            )
        if self._heads.get(number, {seal.digest}) != {seal.digest}:
            self._add_problem(
                "seal", number, "changed", f"Seal {number} is not the one recorded in the given head or anchor."
            )
        report.seals, report.number, report.digest = report.seals + 1, number, seal.digest
        if forged:
            self._add_problem(
                "seal", number, "forged",
                f"Seal {number} is forged: it claims transaction {seal.last_xid}, which this cluster has not reached.",
            )  # fmt: skip
            return
        self._ends[seal.cluster] = Position(seal.last_xid, seal.last_id)
        if intact:
            self._compare(seal)
        else:  # a changed seal says nothing about its entries
            self._start_gap()

    def _follows(self, seal: Seal) -> bool:
        """Whether the seal can be the next one. True if seals between are missing, which is reported."""
        missing = range(self.report.number + 1, seal.number)
        for number in missing[:MAX_LISTED]:
            self._add_problem("seal", number, "removed", f"Seal {number} is missing.")
        if len(missing) > MAX_LISTED:
            self._add_problem(
                "seal", missing[-1], "removed", f"Seals {missing[MAX_LISTED]} to {missing[-1]} are missing."
            )
        if missing:
            self._start_gap()
        return bool(missing) or seal.previous == self.report.digest

    def _start_gap(self) -> None:
        self._compared_until.clear()
        self._gap = True

    def _compare(self, seal: Seal) -> None:
        first = Position(seal.first_xid, seal.first_id - 1) if self._gap else Position()
        last = Position(seal.last_xid, seal.last_id)
        if seal.cluster not in self._entries:
            self._entries[seal.cluster] = _Entries(seal.cluster)
        present = self._entries[seal.cluster].take(after=self._compared_until.get(seal.cluster, first), until=last)
        problems = list(_differences(seal, list(chain.unpack_leaves(bytes(seal.leaves))), present))
        self.report.problems += problems
        self.report.entries += seal.count - sum(problem.problem != "inserted" for problem in problems)
        self._compared_until[seal.cluster] = last

    def check_end(self, unsealed_s: float) -> None:
        """Check the entries after the last seal, and the given heads after the end of the chain."""
        for number in sorted(self._heads):
            if number > self.report.number:
                end = f"the chain now ends at seal {self.report.number}"
                self._add_problem(
                    "seal", number, "removed", f"Seal {number} is in the given head or anchor, but {end}."
                )
        after_seals = ~Q(cluster__in=list(self._ends))
        for cluster, position in self._ends.items():
            after_seals |= Q(commit_order.after(position), cluster=cluster)
        running = Q(
            cluster=sealing.cluster_and_time()[0], xid__gte=commit_order.OLDEST_RUNNING, xid__lt=commit_order.NEXT_XID
        )
        young = Q(at__gte=Now() - timedelta(seconds=unsealed_s))
        unsealed = Entry.objects.filter(after_seals)
        overdue = list(unsealed.exclude(running | young).order_by("id").values_list("id", flat=True)[: MAX_LISTED + 1])
        self.report.waiting = unsealed.filter(running | young).count()
        for id in overdue[:MAX_LISTED]:
            self._add_problem(
                "entry", id, "unsealed",
                f"Entry {id} is not in any seal. Either the control loop is not running, or its seal was removed.",
            )  # fmt: skip
        if len(overdue) > MAX_LISTED:
            self._add_problem(
                "entry", overdue[-1], "unsealed", f"Entry {overdue[-1]} and later ones are not in any seal."
            )


class _Entries:
    """The entries of one cluster in the order of the chain, each read once, page by page."""

    def __init__(self, cluster: int) -> None:
        self._rows = self._read(cluster)
        self._next = next(self._rows, None)

    def take(self, *, after: Position, until: Position) -> list[Leaf]:
        """Return the entries after one position and up to another. Earlier entries are skipped for good."""
        leaves = []
        while self._next is not None and (position := chain.position(self._next)) <= until:
            if position > after:
                leaves.append(chain.leaf(self._next))
            self._next = next(self._rows, None)
        return leaves

    def _read(self, cluster: int) -> Iterator[tuple[Any, ...]]:
        position = Position()
        entries = Entry.objects.filter(cluster=cluster)
        while page := list(chain.rows(entries.filter(commit_order.after(position)))[:PAGE]):
            yield from page
            position = chain.position(page[-1])


def _differences(seal: Seal, sealed: list[Leaf], present: list[Leaf]) -> Iterator[AuditProblem]:
    """Compare the leaves of a seal with the entries `present` between the end of the previous seal and its own."""
    expected, actual = dict(sealed), dict(present)
    elsewhere = set(Entry.objects.filter(id__in=expected.keys() - actual.keys()).values_list("id", flat=True))
    before = [leaf.id for leaf in sealed if leaf.id in actual]
    now = [leaf.id for leaf in present if leaf.id in expected]
    moved = {old for old, new in zip(before, now, strict=True) if old != new} | elsewhere
    where = f"(seal {seal.number})"
    for id, digest in sealed:
        if id in moved:
            yield AuditProblem(
                record="entry",
                number=id,
                problem="reordered",
                message=f"Entry {id} was moved to another place {where}.",
            )
        elif id not in actual:
            yield AuditProblem(record="entry", number=id, problem="removed", message=f"Entry {id} is missing {where}.")
        elif actual[id] != digest:
            yield AuditProblem(
                record="entry",
                number=id,
                problem="changed",
                message=f"Entry {id} was changed after it was written {where}.",
            )
    for id in sorted(actual.keys() - expected.keys()):
        yield AuditProblem(
            record="entry", number=id, problem="inserted", message=f"Entry {id} was inserted later {where}."
        )
