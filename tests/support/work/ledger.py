"""Rebuilds a mission from its events alone, and compares the result with its rows.

Call `check` while no transaction is open. It fails on an event that is not a transition of the table, does not continue
from the previous event, or starts a sortie too early, and on rows that differ from the events.
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
    """One sortie, as rebuilt from its events."""

    state: str | None = None
    attempt: int = 0
    reopened: int = 0  # the attempt after which it was last reopened
    rescues: int = 0
    stopping: bool = False  # it has a cancel request
    succeeded: int = 0  # how often it succeeded


@dataclass
class Ledger:
    """One mission, as rebuilt from its events."""

    state: str | None = None
    sorties: dict[UUID, Account] = field(default_factory=lambda: defaultdict(Account))
    reopened: bool = False


def check(mission: UUID, *, sequential: bool = True) -> Ledger:
    """Check a mission. `sequential`: each transaction saw the effects of the previous ones."""
    rows = {row.id: row for row in Sortie.objects.filter(mission=mission)}
    needs: dict[UUID, list[UUID]] = defaultdict(list)
    for sortie, upstream in Need.objects.filter(sortie__mission=mission).values_list("sortie", "upstream"):
        needs[sortie].append(upstream)
    ledger = Ledger()
    for event in Event.objects.filter(scope=mission).order_by("id"):
        noun, _, state = event.kind.partition(".")
        if noun == "mission":
            _move_mission(ledger, event, state)
        elif noun == "sortie":
            _move_sortie(ledger, event, state, rows=rows, needs=needs, sequential=sequential)
    _compare(mission, ledger, rows=rows, needs=needs)
    return ledger


def _move_mission(ledger: Ledger, event: Event, state: str) -> None:
    source = event.data.get("from")
    assert source == ledger.state, (event.kind, event.data, ledger.state)
    assert allowed(MISSION_ARROWS, source, state), (event.kind, source)
    ledger.reopened |= bool(source) and MissionState(source).final
    ledger.state = state
    if MissionState(state).final:
        states = {sortie: account.state for sortie, account in ledger.sorties.items()}
        unfinished = {sortie: reached for sortie, reached in states.items() if reached not in FINAL}
        assert not unfinished, f"the mission became {state} before its sorties had ended: {unfinished}"


def _move_sortie(
    ledger: Ledger,
    event: Event,
    state: str,
    *,
    rows: dict[UUID, Sortie],
    needs: dict[UUID, list[UUID]],
    sequential: bool,
) -> None:
    assert event.subject is not None
    account, row = ledger.sorties[event.subject], rows[event.subject]
    if state == "changed":  # it now also needs sorties that were added at run time
        return
    if state == "stopping":
        assert account.state == "running", "only a running sortie can be stopped"
        account.stopping = True
        return
    source, reason = event.data.get("from"), event.data.get("why", "")
    context = f"{row.key}: {event.kind} {event.data}, after {account}"
    assert source == account.state, context
    assert allowed(SORTIE_ARROWS, source, state), context
    if source == "running":
        assert event.data["attempt"] == account.attempt, context
        assert not (account.stopping and state not in FINAL), f"it was cancelled but continues. {context}"
        if reason == "agent lost":
            account.rescues = min(account.rescues + 1, settings.FLEET_MAX_RESCUES)
        account.stopping = False
    if state == "running":
        account.attempt += 1
        assert event.data["attempt"] == account.attempt, context
        unfinished_needs = [
            rows[need].key for need in needs[row.id] if not _lets_start(row, rows[need], ledger.sorties[need])
        ]
        assert not unfinished_needs, f"it started before {unfinished_needs}. {context}"
        assert not sequential or ledger.state == "running", f"its mission is {ledger.state}. {context}"
    if state == "pending" and source is not None:
        account.reopened, account.rescues = account.attempt, 0
    account.succeeded += state == "succeeded"
    account.state = state


def _lets_start(dependent: Sortie, need: Sortie, account: Account) -> bool:
    """Whether a dependent no longer waits for this need. `account`: the account of the need."""
    if dependent.always:
        return account.state in FINAL
    return account.state == "succeeded" or (account.state == "failed" and need.allow_failure)


def _compare(mission: UUID, ledger: Ledger, *, rows: dict[UUID, Sortie], needs: dict[UUID, list[UUID]]) -> None:
    mission_row = Mission.objects.get(id=mission)
    assert mission_row.state == ledger.state
    assert rows.keys() == ledger.sorties.keys()
    attempts: dict[UUID, dict[int, str]] = defaultdict(dict)
    for sortie, number, state in Attempt.objects.filter(sortie__mission=mission).values_list(
        "sortie", "number", "state"
    ):
        attempts[sortie][number] = state
    for row in rows.values():
        account = ledger.sorties[row.id]
        context = f"{row.key}: { {name: value for name, value in vars(row).items() if name != '_state'} }"
        assert (row.state, row.attempt, row.rescues) == (account.state, account.attempt, account.rescues), (
            f"{context}; its events say {account}"
        )
        failed_attempts = [
            number for number, state in attempts[row.id].items() if state == "failed" and number > account.reopened
        ]
        assert row.tries == len(failed_attempts), context
        assert row.cancel_requested == account.stopping, context
        assert row.tries <= row.max_tries, context
        assert set(attempts[row.id]) == set(range(1, row.attempt + 1)), context
        live = [number for number, state in attempts[row.id].items() if state == "running"]
        assert live == ([row.attempt] if row.state == "running" else []), context
        unfinished_needs = sum(not _lets_start(row, rows[need], ledger.sorties[need]) for need in needs[row.id])
        if row.state == "pending":
            assert row.remaining == unfinished_needs > 0, f"{context}; {unfinished_needs} needs have not ended"
        if row.state == "skipped" and not mission_row.stop_on_failure:
            assert any(_ended_badly(rows[need]) for need in needs[row.id]), context
    if MissionState(mission_row.state).final and mission_row.state != MissionState.CANCELLED:
        assert (mission_row.state == "failed") == any(map(_ended_badly, rows.values()))
    limits = dict(ConcurrencyKey.objects.values_list("key", "limit"))
    holders = Sortie.objects.filter(concurrency_key__isnull=False, state__in=["queued", "running"])
    for key, count in Counter(holders.values_list("concurrency_key", flat=True)).items():
        assert count <= limits[str(key)], f"{count} sorties hold the key {key!r}"


def _ended_badly(row: Sortie) -> bool:
    return row.state in {"skipped", "cancelled"} or (row.state == "failed" and not row.allow_failure)
