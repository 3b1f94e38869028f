"""A mission rebuilt from its events alone, and the rows held against it.

`check` may be called at any moment at which no transaction is under way. It fails on an event that is no arrow of the
table, does not go on from the one before, starts what may not start, or does not come to what the rows say.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings

from fleet.events.models import Event
from missions.models import Attempt, ConcurrencyKey, Mission, Need, Sortie
from missions.states import MISSION_ARROWS, SORTIE_ARROWS, MissionState, SortieState, allowed

FINAL = {state.value for state in SortieState if state.final}


@dataclass
class Account:
    """What the events say of one sortie."""

    state: str | None = None
    attempt: int = 0
    reopened: int = 0  # the attempt after which it was last reopened
    rescues: int = 0
    stopping: bool = False  # somebody cancelled it while it ran
    succeeded: int = 0  # how often, ever


@dataclass
class Ledger:
    """What the events say of one mission."""

    state: str | None = None
    sorties: dict[UUID, Account] = field(default_factory=lambda: defaultdict(Account))
    reopened: bool = False


def check(mission: UUID, *, alone: bool = True) -> Ledger:
    """`alone`: nothing ran beside the test, so that what one transaction did was there for the next one to see."""
    rows = {row.id: row for row in Sortie.objects.filter(mission=mission)}
    needs: dict[UUID, list[UUID]] = defaultdict(list)
    for sortie, upstream in Need.objects.filter(sortie__mission=mission).values_list("sortie", "upstream"):
        needs[sortie].append(upstream)
    ledger = Ledger()
    for event in Event.objects.filter(scope=mission).order_by("id"):
        noun, _, state = event.kind.partition(".")
        if noun == "mission":
            _move_mission(ledger, event, state)
        else:
            _move_sortie(ledger, event, state, rows=rows, needs=needs, alone=alone)
    _compare(mission, ledger, rows=rows, needs=needs)
    return ledger


def _move_mission(ledger: Ledger, event: Event, state: str) -> None:
    source = event.data.get("from")
    assert source == ledger.state, (event.kind, event.data, ledger.state)
    assert allowed(MISSION_ARROWS, source, state), (event.kind, source)
    ledger.reopened |= bool(source) and MissionState(source).final
    ledger.state = state
    if MissionState(state).final:
        unfinished = {sortie: one.state for sortie, one in ledger.sorties.items() if one.state not in FINAL}
        assert not unfinished, f"the mission became {state} before its sorties had ended: {unfinished}"


def _move_sortie(
    ledger: Ledger,
    event: Event,
    state: str,
    *,
    rows: dict[UUID, Sortie],
    needs: dict[UUID, list[UUID]],
    alone: bool,
) -> None:
    assert event.subject is not None
    one, row = ledger.sorties[event.subject], rows[event.subject]
    if state == "stopping":
        assert one.state == "running", "what does not run cannot be asked to stop"
        one.stopping = True
        return
    source, why = event.data.get("from"), event.data.get("why", "")
    told = f"{row.key}: {event.kind} {event.data}, after {one}"
    assert source == one.state, told
    assert allowed(SORTIE_ARROWS, source, state), told
    if source == "running":
        assert event.data["attempt"] == one.attempt, told
        assert not (one.stopping and state not in FINAL), f"it was cancelled, and goes on. {told}"
        if why == "agent lost":
            one.rescues = min(one.rescues + 1, settings.FLEET_MAX_RESCUES)
        one.stopping = False
    if state == "running":
        one.attempt += 1
        assert event.data["attempt"] == one.attempt, told
        unended = [rows[need].key for need in needs[row.id] if not _lets_start(row, rows[need], ledger.sorties[need])]
        assert not unended, f"it started before {unended}. {told}"
        assert not alone or ledger.state == "running", f"its mission is {ledger.state}. {told}"
    if state == "pending" and source is not None:
        one.reopened, one.rescues = one.attempt, 0
    one.succeeded += state == "succeeded"
    one.state = state


def _lets_start(later: Sortie, need: Sortie, account: Account) -> bool:
    if later.always:
        return account.state in FINAL
    return account.state == "succeeded" or (account.state == "failed" and need.allow_failure)


def _compare(mission: UUID, ledger: Ledger, *, rows: dict[UUID, Sortie], needs: dict[UUID, list[UUID]]) -> None:
    stands = Mission.objects.get(id=mission)
    assert stands.state == ledger.state
    assert rows.keys() == ledger.sorties.keys()
    attempts: dict[UUID, dict[int, str]] = defaultdict(dict)
    for sortie, number, state in Attempt.objects.filter(sortie__mission=mission).values_list(
        "sortie", "number", "state"
    ):
        attempts[sortie][number] = state
    for row in rows.values():
        one, told = ledger.sorties[row.id], f"{row.key}: { {n: v for n, v in vars(row).items() if n != '_state'} }"
        assert (row.state, row.attempt, row.rescues) == (one.state, one.attempt, one.rescues), (
            f"{told}; its events say {one}"
        )
        failed = [number for number, state in attempts[row.id].items() if state == "failed" and number > one.reopened]
        assert row.tries == len(failed), told
        assert row.cancel_requested == one.stopping, told
        assert row.tries <= row.max_tries, told
        assert set(attempts[row.id]) == set(range(1, row.attempt + 1)), told
        live = [number for number, state in attempts[row.id].items() if state == "running"]
        assert live == ([row.attempt] if row.state == "running" else []), told
        unended = sum(not _lets_start(row, rows[need], ledger.sorties[need]) for need in needs[row.id])
        if row.state == "pending":
            assert row.remaining == unended > 0, f"{told}; {unended} needs have not ended"
        if row.state == "skipped" and not stands.stop_on_failure:
            assert any(_ended_badly(rows[need]) for need in needs[row.id]), told
    if MissionState(stands.state).final and stands.state != MissionState.CANCELLED:
        assert (stands.state == "failed") == any(map(_ended_badly, rows.values()))
    limits = dict(ConcurrencyKey.objects.values_list("key", "limit"))
    taken = Sortie.objects.filter(concurrency_key__isnull=False, state__in=["queued", "running"])
    for key, count in Counter(taken.values_list("concurrency_key", flat=True)).items():
        assert count <= limits[str(key)], f"{count} hold the key {key!r}"


def _ended_badly(row: Sortie) -> bool:
    return row.state in {"skipped", "cancelled"} or (row.state == "failed" and not row.allow_failure)
