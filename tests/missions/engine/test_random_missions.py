"""Random orders, claims, outcomes and losses of agents, in random order: rows and events always agree.

Each agent is a real committer with its own connection. The test decides the outcomes, so that a run can be shrunk to the
few steps that matter. After every step, each mission is rebuilt from its events and compared
(tests/support/work/ledger.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
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

from agents import operations as agent_operations
from agents.confinement.attempt_limits import StopReason
from agents.drivers.base import Evidence
from agents.models import Agent
from fleet import errors, ids
from fleet.postgres import hot_path, roles, statements
from missions import claims, operations
from missions.claims import Claim
from missions.control import admission, duties
from missions.engine.attempts import added_sorties
from missions.engine.settlement import verdict
from missions.engine.settlement.settling import Settlement
from missions.models import Artifact, Mission, Output, Sortie
from missions.operations import transitions
from missions.plan import SortieSpec
from tests.support import fleet
from tests.support.work import ledger
from tests.support.work.simulated_agents import SimulatedAgent

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
    """A plan of up to seven sorties, each of which may need earlier ones."""
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


class Missions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.database = hot_path.connect(name="random")
        self.agents = [SimulatedAgent(), SimulatedAgent()]
        self.lost_agents: list[SimulatedAgent] = []  # the fleet has given them up, but they may still report
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

    @rule(index=st.integers(0, 1), do=st.sampled_from(["pause", "resume", "resume", "cancel", "retry"]))
    def order(self, index: int, do: str) -> None:
        _unless_refused(ORDERS[do], mission=self.missions[index % len(self.missions)])

    @rule(index=st.integers(0, 9), do=st.sampled_from(["cancel_sortie", "retry_sortie"]))
    def order_a_sortie(self, index: int, do: str) -> None:
        every = list(Sortie.objects.filter(mission__in=self.missions).order_by("id").values_list("id", flat=True))
        _unless_refused(ORDERS[do], sortie=every[index % len(every)])

    # ── Agents ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(index=st.integers(0, 1), max_claims=st.integers(1, 3))
    def claim(self, index: int, max_claims: int) -> None:
        agent = self.agents[index]
        agent.active_claims += agent.committer.settle_and_claim(max_claims=max_claims)

    @precondition(lambda self: any(agent.active_claims for agent in self.agents))
    @rule(
        index=st.integers(0, 1),
        outcomes=st.lists(st.sampled_from(["ok", "ok", "fail", "raise", "add"]), min_size=1, max_size=3),
        renews=st.booleans(),
        max_claims=st.integers(0, 2),
    )
    def settle_several(self, index: int, outcomes: list[str], renews: bool, max_claims: int) -> None:
        """Settle several sorties in one commit, and claim more in the same statement."""
        agent = self.agents[index] if self.agents[index].active_claims else self.agents[1 - index]
        ended, agent.active_claims = agent.active_claims[: len(outcomes)], agent.active_claims[len(outcomes) :]
        agent.active_claims += self._settle(agent, ended, outcomes, renews=renews, max_claims=max_claims)

    @precondition(lambda self: any(agent.active_claims for agent in self.agents))
    @rule(index=st.integers(0, 1))
    def return_a_claim(self, index: int) -> None:
        agent = self.agents[index] if self.agents[index].active_claims else self.agents[1 - index]
        agent.committer.settle_and_claim(returns=[agent.active_claims.pop()])

    @rule(index=st.integers(0, 1), cause=st.sampled_from(["killed", "silent"]), rescued=st.booleans())
    def lose_an_agent(self, index: int, cause: str, rescued: bool) -> None:
        """An agent dies and its node notices it, or it is halted until its leases have ended."""
        agent = self.agents[index]
        if cause == "killed":
            agent_operations.end(agents=[agent.id], state=Agent.State.LOST, reason="killed", reaped=True)
        else:
            self._expire(agent=agent.id)
        if rescued:
            duties.rescue()
        self.lost_agents.append(agent)
        self.agents[index] = SimulatedAgent()

    @precondition(lambda self: any(agent.active_claims for agent in self.lost_agents))
    @rule(outcome=st.sampled_from(["ok", "fail", "add"]), twice=st.booleans())
    def report_late(self, outcome: str, twice: bool) -> None:
        """A lost agent reports: everything is accepted if it still holds the sortie, and nothing otherwise."""
        agent = next(agent for agent in self.lost_agents if agent.active_claims)
        claim = agent.active_claims.pop()
        holds = self._holds(claim)
        output, artifacts = Output.objects.count(), Artifact.objects.count()
        parameters = {"ids": [claim.id], "attempts": [claim.attempt]}
        self.database.execute(
            statements.read("missions.engine.output", "store_output"),
            {**parameters, "streams": ["stdout"], "ats": [0.0], "texts": ["late"]},
        )
        self.database.execute(
            statements.read("missions.artifacts", "record_outputs"),
            {"sortie": claim.id, "attempt": claim.attempt, "ids": [ids.new()], "paths": ["x"], "digests": ["0" * 64],
             "sizes": [1], "types": ["text/plain"]},
        )  # fmt: skip
        assert (Output.objects.count() - output, Artifact.objects.count() - artifacts) == (holds, holds)
        self._settle(agent, [claim], [outcome])
        if twice:
            self._settle(agent, [claim], ["fail"])

    @rule()
    def renew_leases(self) -> None:
        for agent in [*self.agents, *self.lost_agents]:
            with self.database.cursor() as cursor:
                renewal = claims.renew(
                    cursor, attempts=[(claim.id, claim.attempt) for claim in agent.active_claims], lease_s=3_600
                )
            assert renewal.renewed == {(claim.id, claim.attempt) for claim in agent.active_claims if self._holds(claim)}

    # ── The control loop ─────────────────────────────────────────────────────────────────────────────────────────────

    @rule(duty=st.sampled_from([duties.rescue, duties.sweep, admission.admit, transitions.complete]))
    def run_a_duty(self, duty: Callable[[], object]) -> None:
        duty()

    @rule()
    def let_time_pass(self) -> None:
        self.database.execute("UPDATE missions_sortie SET wake_at = now() WHERE state = 'waiting'")
        duties.wake()

    @rule()
    def recount_finds_nothing(self) -> None:
        assert not duties.recount(), "recount corrected a counter, although nothing ran concurrently"

    # ── Invariants ───────────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def rows_match_events(self) -> None:
        for mission in self.missions:
            ledger.check(mission)

    def teardown(self) -> None:
        try:
            if self.missions:
                self._finish_all_missions()
        finally:
            for agent in [*self.agents, *self.lost_agents]:
                agent.end()
            self.database.close()
            with roles.as_owner(), connection.cursor() as cursor:
                cursor.execute("TRUNCATE missions_mission, missions_concurrencykey, agents_agent, fleet_event CASCADE")

    def _finish_all_missions(self) -> None:
        """Without further faults, every mission ends."""
        for _ in range(60):
            for paused in Mission.objects.filter(id__in=self.missions, state="paused"):
                operations.resume(mission=paused.id, can_execute=True)
            self._expire(agent=None)  # no agent holds a sortie that was cancelled while it was being returned
            duties.rescue()
            duties.sweep()
            self.let_time_pass()
            admission.admit()
            for agent in self.agents:
                leases, agent.active_claims = agent.active_claims + agent.committer.settle_and_claim(max_claims=20), []
                agent.active_claims += self._settle(agent, leases, ["ok"] * len(leases), renews=True)
            transitions.complete()
            for mission in self.missions:
                ledger.check(mission)
            if not Mission.objects.filter(id__in=self.missions, finished_at=None).exists():
                return
        pytest.fail(f"a mission does not end: {[fleet.states(mission) for mission in self.missions]}")

    def _expire(self, *, agent: UUID | None) -> None:
        """End the leases of an agent; if it is None, those of running sorties that no agent holds."""
        values = [claim.id for agent in self.agents for claim in agent.active_claims]
        self.database.execute(
            "UPDATE missions_sortie SET lease_until = now() - interval '1 s' WHERE state = 'running'"
            " AND (agent_id = %(agent)s OR %(agent)s::uuid IS NULL AND id <> ALL (%(held)s))",
            {"agent": agent, "held": values},
        )

    def _holds(self, claim: Claim) -> bool:
        return Sortie.objects.filter(id=claim.id, attempt=claim.attempt, state="running").exists()

    def _settle(
        self,
        agent: SimulatedAgent,
        ended: list[Claim],
        outcomes: list[str],
        *,
        renews: bool = False,
        max_claims: int = 0,
    ) -> list[Claim]:
        """Judge and settle as the engine does. Returns the claims of the same statement."""
        with self.database.cursor() as cursor:
            attempts = [(claim.id, claim.attempt) for claim in ended]
            stopped = claims.renew(cursor, attempts=attempts, lease_s=3_600).cancelled if renews else frozenset()
        expected = {(claim.id, claim.attempt): self._holds(claim) for claim in ended}
        settlements = [
            self._judge(claim, "stop" if (claim.id, claim.attempt) in stopped else outcome)
            for claim, outcome in zip(ended, outcomes, strict=False)
        ]
        new_claims = agent.committer.settle_and_claim(settlements=settlements, max_claims=max_claims)
        assert {token: agent.acceptance[token] for token in expected} == expected
        return new_claims

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
                evidence = Evidence(finished=True, ok=True, added=self._added_sorties(claim))
            case _:
                evidence = Evidence(finished=True, ok=True, result={"n": 1})
        more = added_sorties.check(claim=claim, items=evidence.added)
        return verdict.judge(claim=claim, spec=spec, evidence=evidence, added=more)

    def _added_sorties(self, claim: Claim) -> tuple[dict[str, Any], ...]:
        """Two more sorties: one that a pending sortie needs, and one that needs another sortie."""
        self.added += 1
        mission = Sortie.objects.filter(mission=claim.mission)
        pending = list(mission.filter(state="pending").order_by("id").values_list("key", flat=True)[:1])
        other = mission.exclude(id=claim.id).order_by("id").values_list("key", flat=True).first()
        plain = {"agent": "backend", "driver": "scripted"}
        return (
            {"name": f"before{self.added}", **plain, "before": pending},
            {"name": f"after{self.added}", **plain, "needs": [other] if other else []},
        )


def _unless_refused(operation: Any, **subject: UUID) -> None:
    with suppress(errors.Conflict):
        operation(**subject)


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
