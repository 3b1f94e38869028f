"""Random missions under random treatment: whatever happens in whatever order, the rows and the events hold.

Each agent is a real committer with a connection of its own; what it flies is decided here, so that a run can be shrunk to
the few steps that matter. After every step the mission is rebuilt from its events and compared (tests/support/ledger.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agents import operations as agents
from agents.drivers.base import Evidence, StopReason
from agents.models import Agent
from fleet import errors, ids
from fleet.celery import app
from fleet.postgres import hot_path, roles, statements
from missions import claims, operations
from missions.claims import Claim
from missions.control import admission, duties
from missions.engine.attempts import added_sorties
from missions.engine.attempts.preparation import TypeSettings
from missions.engine.process.runtime import Engine
from missions.engine.settlement import verdict
from missions.engine.settlement.settling import Settlement
from missions.hints import HintPublisher
from missions.models import Artifact, Mission, Output, Sortie
from missions.operations import transitions
from missions.plan import SortieSpec
from tests.support import fleet, ledger

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

KEYS = {"narrow": 1, "wide": 2}
ORDERS: dict[str, Callable[..., object]] = {
    "pause": operations.pause,
    "resume": partial(operations.resume, can_execute=True),
    "cancel": operations.cancel,
    "retry": partial(operations.retry, can_execute=True),
    "cancel_sortie": operations.cancel_sortie,
    "retry_sortie": partial(operations.retry_sortie, can_execute=True),
}
FAR = "2100-01-01T00:00:00+00:00"


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """A plan of up to seven sorties, each of which may need those before it."""
    sorties: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 7))):
        sortie: dict[str, Any] = (
            {"needs": draw(st.lists(st.sampled_from(list(sorties)), unique=True, max_size=3))} if sorties else {}
        )
        if draw(st.integers(0, 3)) == 0:
            sortie["allow_failure"] = True
        if sortie.get("needs") and draw(st.integers(0, 3)) == 0:
            sortie["if"] = "always"
        sortie["retry"] = {"max_attempts": draw(st.integers(1, 3)), "backoff": "1h"}
        if key := draw(st.sampled_from([None, None, *KEYS])):
            sortie["concurrency"] = {"key": key, "limit": KEYS[key]}
        if draw(st.integers(0, 7)) == 0:
            sortie["run_at"] = FAR
        sorties[f"s{number}"] = sortie
    return {"sorties": sorties, "on_failure": draw(st.sampled_from(["continue", "continue", "stop"]))}


@dataclass
class Flier:
    """One agent: its committer, what it holds, and what it was told became of its outcomes."""

    id: UUID = field(default_factory=ids.new)
    active_claims: list[Claim] = field(default_factory=list)
    acceptance: dict[tuple[UUID, int], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        agents.register(agent=self.id, agent_type="backend", node="test", pid=1, start_time=0.0)
        self.committer = Engine(
            agent=self.id, type_settings=TypeSettings(agent_type="backend"), slots=1, hint_publisher=HintPublisher(app)
        ).committer
        self.committer.on_settled = self._settled
        self.committer.start()

    def _settled(self, settlement: Settlement, accepted: bool) -> None:
        self.acceptance[settlement.id, settlement.attempt] = accepted

    def end(self) -> None:
        self.committer.stop()
        self.committer.join()


class Missions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.database = hot_path.connect(name="random")
        self.fliers = [Flier(), Flier()]
        self.gone: list[Flier] = []  # agents that were given up and speak on
        self.missions: list[UUID] = []
        self.added = 0

    # ── Missions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize(plan=plans())
    def begin(self, plan: Mapping[str, Any]) -> None:
        self.missions.append(fleet.launch(**plan).id)

    @precondition(lambda self: len(self.missions) < 2)
    @rule(plan=plans())
    def launch_another(self, plan: Mapping[str, Any]) -> None:
        self.missions.append(fleet.launch(**plan).id)

    @rule(which=st.integers(0, 1), do=st.sampled_from(["pause", "resume", "resume", "cancel", "retry"]))
    def order(self, which: int, do: str) -> None:
        _unless_refused(ORDERS[do], mission=self.missions[which % len(self.missions)])

    @rule(which=st.integers(0, 9), do=st.sampled_from(["cancel_sortie", "retry_sortie"]))
    def order_a_sortie(self, which: int, do: str) -> None:
        every = list(Sortie.objects.filter(mission__in=self.missions).order_by("id").values_list("id", flat=True))
        _unless_refused(ORDERS[do], sortie=every[which % len(every)])

    # ── Agents ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(who=st.integers(0, 1), max_claims=st.integers(1, 3))
    def claim(self, who: int, max_claims: int) -> None:
        flier = self.fliers[who]
        flier.active_claims += flier.committer.settle_and_claim(max_claims=max_claims)

    @precondition(lambda self: any(flier.active_claims for flier in self.fliers))
    @rule(
        who=st.integers(0, 1),
        outcomes=st.lists(st.sampled_from(["ok", "ok", "fail", "raise", "add"]), min_size=1, max_size=3),
        hears=st.booleans(),
        max_claims=st.integers(0, 2),
    )
    def end_a_list(self, who: int, outcomes: list[str], hears: bool, max_claims: int) -> None:
        """Settle several in one commit, and ask for more in the same exchange."""
        flier = self.fliers[who] if self.fliers[who].active_claims else self.fliers[1 - who]
        ended, flier.active_claims = flier.active_claims[: len(outcomes)], flier.active_claims[len(outcomes) :]
        flier.active_claims += self._say(flier, ended, outcomes, hears=hears, max_claims=max_claims)

    @precondition(lambda self: any(flier.active_claims for flier in self.fliers))
    @rule(who=st.integers(0, 1))
    def hand_back(self, who: int) -> None:
        flier = self.fliers[who] if self.fliers[who].active_claims else self.fliers[1 - who]
        flier.committer.settle_and_claim(returns=[flier.active_claims.pop()])

    @rule(who=st.integers(0, 1), how=st.sampled_from(["killed", "silent"]), rescued=st.booleans())
    def lose(self, who: int, how: str, rescued: bool) -> None:
        """An agent dies and its node sees it, or it is halted past its leases."""
        flier = self.fliers[who]
        if how == "killed":
            agents.end(agents=[flier.id], state=Agent.State.LOST, reason="killed", reaped=True)
        else:
            self._expire(agent=flier.id)
        if rescued:
            duties.rescue()
        self.gone.append(flier)
        self.fliers[who] = Flier()

    @precondition(lambda self: any(flier.active_claims for flier in self.gone))
    @rule(outcome=st.sampled_from(["ok", "fail", "add"]), twice=st.booleans())
    def speak_late(self, outcome: str, twice: bool) -> None:
        """An agent that was given up writes on: all of it counts, if nobody took the sortie away yet, or nothing."""
        flier = next(flier for flier in self.gone if flier.active_claims)
        claim = flier.active_claims.pop()
        holds = self._holds(claim)
        output, artifacts = Output.objects.count(), Artifact.objects.count()
        item = {"ids": [claim.id], "attempts": [claim.attempt]}
        self.database.execute(
            statements.read("missions.engine.output", "output"),
            {**item, "streams": ["stdout"], "ats": [0.0], "texts": ["late"]},
        )
        self.database.execute(
            statements.read("missions.artifacts", "artifact"),
            {"sortie": claim.id, "attempt": claim.attempt, "ids": [ids.new()], "paths": ["x"], "digests": ["0" * 64],
             "sizes": [1], "types": ["text/plain"]},
        )  # fmt: skip
        assert (Output.objects.count() - output, Artifact.objects.count() - artifacts) == (holds, holds)
        self._say(flier, [claim], [outcome])
        if twice:
            self._say(flier, [claim], ["fail"])

    @rule()
    def hear_of_leases(self) -> None:
        for flier in [*self.fliers, *self.gone]:
            with self.database.cursor() as cursor:
                renewal = claims.renew(
                    cursor, attempts=[(claim.id, claim.attempt) for claim in flier.active_claims], lease_s=3_600
                )
            assert renewal.renewed == {(claim.id, claim.attempt) for claim in flier.active_claims if self._holds(claim)}

    # ── The control loop ─────────────────────────────────────────────────────────────────────────────────────────────

    @rule(duty=st.sampled_from([duties.rescue, duties.sweep, admission.admit, transitions.complete]))
    def do_a_duty(self, duty: Callable[[], object]) -> None:
        duty()

    @rule()
    def let_time_pass(self) -> None:
        self.database.execute("UPDATE missions_sortie SET wake_at = now() WHERE state = 'waiting'")
        duties.wake()

    @rule()
    def look_whether_the_counters_missed_anything(self) -> None:
        assert not duties.recount(), "the net under the counters caught something, though nothing ran beside"

    # ── What always holds ────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def the_events_tell_what_the_rows_say(self) -> None:
        for mission in self.missions:
            ledger.check(mission)

    def teardown(self) -> None:
        try:
            if self.missions:
                self._let_all_end()
        finally:
            for flier in [*self.fliers, *self.gone]:
                flier.end()
            self.database.close()
            with roles.as_owner(), connection.cursor() as cursor:
                cursor.execute("TRUNCATE missions_mission, missions_concurrencykey, agents_agent, fleet_event CASCADE")

    def _let_all_end(self) -> None:
        """Left in peace, every mission ends."""
        for _ in range(60):
            for mission in Mission.objects.filter(id__in=self.missions, state="paused"):
                operations.resume(mission=mission.id, can_execute=True)
            self._expire(agent=None)  # what was cancelled just when it was handed back is nobody's
            duties.rescue()
            duties.sweep()
            self.let_time_pass()
            admission.admit()
            for flier in self.fliers:
                leases, flier.active_claims = flier.active_claims + flier.committer.settle_and_claim(max_claims=20), []
                flier.active_claims += self._say(flier, leases, ["ok"] * len(leases), hears=True)
            transitions.complete()
            for mission in self.missions:
                ledger.check(mission)
            if not Mission.objects.filter(id__in=self.missions, finished_at=None).exists():
                return
        pytest.fail(f"left in peace, it does not end: {[fleet.states(mission) for mission in self.missions]}")

    def _expire(self, *, agent: UUID | None) -> None:
        """The leases of an agent are over; None: of what no agent holds any more."""
        values = [claim.id for flier in self.fliers for claim in flier.active_claims]
        self.database.execute(
            "UPDATE missions_sortie SET lease_until = now() - interval '1 s' WHERE state = 'running'"
            " AND (agent_id = %(agent)s OR %(agent)s::uuid IS NULL AND id <> ALL (%(held)s))",
            {"agent": agent, "held": values},
        )

    def _holds(self, claim: Claim) -> bool:
        return Sortie.objects.filter(id=claim.id, attempt=claim.attempt, state="running").exists()

    def _say(
        self, flier: Flier, ended: list[Claim], outcomes: list[str], *, hears: bool = False, max_claims: int = 0
    ) -> list[Claim]:
        """Judge and settle as the engine does; what was claimed in the same exchange."""
        with self.database.cursor() as cursor:
            values = [(claim.id, claim.attempt) for claim in ended]
            stopped = claims.renew(cursor, attempts=values, lease_s=3_600).cancelled if hears else frozenset()
        expected = {(claim.id, claim.attempt): self._holds(claim) for claim in ended}
        values = [
            self._judge(claim, "stop" if (claim.id, claim.attempt) in stopped else outcome)
            for claim, outcome in zip(ended, outcomes, strict=False)
        ]
        claimed = flier.committer.settle_and_claim(settlements=values, max_claims=max_claims)
        assert {token: flier.acceptance[token] for token in expected} == expected
        return claimed

    def _judge(self, claim: Claim, outcome: str) -> Settlement:
        spec = SortieSpec.from_json(claim.spec)
        match outcome:
            case "raise":
                return verdict.failed(claim=claim, spec=spec, error="RuntimeError: by surprise")
            case "fail":
                evidence = Evidence(finished=True, ok=False, error="no")
            case "stop":
                evidence = Evidence(finished=False, ok=False, stopped=StopReason.CANCELLED)
            case "add":
                evidence = Evidence(finished=True, ok=True, added=self._more(claim))
            case _:
                evidence = Evidence(finished=True, ok=True, result={"n": 1})
        more = added_sorties.check(claim=claim, items=evidence.added)
        return verdict.judge(claim=claim, spec=spec, evidence=evidence, added=more)

    def _more(self, claim: Claim) -> tuple[dict[str, Any], ...]:
        """Two more sorties: one that what waits for this one also waits for, and one that needs any other."""
        self.added += 1
        mission = Sortie.objects.filter(mission=claim.mission)
        pending = list(mission.filter(state="pending").order_by("id").values_list("key", flat=True)[:1])
        other = mission.exclude(id=claim.id).order_by("id").values_list("key", flat=True).first()
        plain = {"agent": "backend", "driver": "scripted"}
        return (
            {"name": f"before{self.added}", **plain, "before": pending},
            {"name": f"after{self.added}", **plain, "needs": [other] if other else []},
        )


def _unless_refused(operation: Any, **what: UUID) -> None:
    with suppress(errors.Conflict):
        operation(**what)


def test_rows_and_events_agree_whatever_happens_to_missions() -> None:
    run_state_machine_as_test(
        Missions,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
