"""During an upgrade, agents of the last release and of the new one share missions: nothing is lost or done twice.

The agents of the last release are the frozen copy in release_0_1; control loop and tables are the new ones.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection

from agents import operations as agents
from fleet import ids
from fleet.postgres import hot_path, parameters
from missions.engine.process.runtime import Engine
from missions.engine.settlement import settle_and_claim, settling
from missions.engine.settlement.settle_and_claim import Claimant
from missions.models import Attempt, Mission, Sortie
from tests.support import fleet
from tests.support.waiting import until
from tests.upgrades.release_0_1.agent import Agent, Claim, Settlement

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

LAYERS, WIDTH, MISSIONS = 3, 8, 6


def graph() -> dict[str, Any]:
    """Layers of sorties that each need the whole previous layer, with joins in between."""
    sorties: dict[str, Any] = {}
    needs: list[str] = []
    for layer in range(LAYERS):
        names = [f"s{layer}-{number}" for number in range(WIDTH)]
        sorties |= {name: {"needs": needs} for name in names}
        sorties[f"join{layer}"] = {"needs": names}
        needs = [f"join{layer}"]
    return sorties


def connect() -> psycopg.Connection[Any]:
    return psycopg.connect(**parameters.from_django(application_name="old agent"), autocommit=True)


@contextmanager
def old_agent(*, lease_s: float = 30) -> Iterator[Agent]:
    with closing(connect()) as session:
        agent = Agent(session, "backend", lease_s=lease_s)
        agent.register()
        yield agent


def success(claim: Claim) -> Settlement:
    return Settlement(
        id=claim.id, attempt=claim.attempt, state="succeeded", outcome="succeeded", result='{"by": "old"}', exit_code=0
    )


def work(agent: Agent, ending: threading.Event, refused: list[Claim]) -> None:
    """The loop of an old agent: claim several sorties, renew, settle them, and claim more in the same statement."""
    claims: list[Claim] = []
    while not ending.is_set() or claims:
        assert agent.heartbeat(running=len(claims))
        renewed = agent.renew(claims)
        assert renewed == {(claim.id, claim.attempt) for claim in claims}
        settlements = [success(claim) for claim in claims]
        new_claims, accepted = agent.settle_and_claim(settlements=settlements, want=0 if ending.is_set() else 2)
        refused += [claim for claim in claims if claim.id not in accepted]
        claims = new_claims
        if not claims:
            ending.wait(0.01)


@contextmanager
def working(number: int) -> Iterator[list[Claim]]:
    """Run old agents in threads. Yields the claims whose settlements were refused."""
    refused: list[Claim] = []
    ending = threading.Event()
    with ExitStack() as stack:
        agents = [stack.enter_context(old_agent()) for _ in range(number)]
        threads = [threading.Thread(target=work, args=(agent, ending, refused)) for agent in agents]
        for thread in threads:
            thread.start()
        try:
            yield refused
        finally:
            ending.set()
            for thread in threads:
                thread.join()


def run_beside(engine: Engine, missions: list[Mission]) -> None:
    def run_engine() -> None:
        while not ended.is_set():
            engine.run_slot()
        connection.close()

    ended = threading.Event()
    thread = threading.Thread(target=run_engine)
    thread.start()
    try:

        def all_ended() -> bool:
            fleet.beat()
            return not Mission.objects.filter(finished_at=None).exists()

        until(all_ended)
    finally:
        ended.set()
        thread.join()


def test_both_releases_work_on_the_same_missions(engine: Engine) -> None:
    missions = [fleet.launch(graph()) for _ in range(MISSIONS)]
    with working(2) as refused:
        run_beside(engine, missions)
    assert refused == []
    assert {fleet.state(mission.id) for mission in missions} == {"succeeded"}
    attempts = Counter(Attempt.objects.values_list("sortie", flat=True))
    assert len(attempts) == Sortie.objects.count() == MISSIONS * LAYERS * (WIDTH + 1)
    assert set(attempts.values()) == {1}, "a sortie was executed twice"
    shares = Counter(Attempt.objects.values_list("result__by", flat=True))
    assert min(shares["old"], shares[None]) > 5, shares


def test_a_new_agent_takes_over_from_a_dead_old_one(engine: Engine) -> None:
    mission = fleet.launch({"a": {}, "b": {"needs": ["a"]}})
    with old_agent(lease_s=0.3) as agent:
        (claim,), _ = agent.settle_and_claim(want=1)
        assert fleet.run_to_end(engine, mission) == "succeeded"
        _, accepted = agent.settle_and_claim(settlements=[success(claim)])
        assert accepted == set(), "the outcome of a lost attempt was accepted"
        assert agent.renew([claim]) == set()
    outcomes = Attempt.objects.filter(sortie=claim.id).order_by("number").values_list("number", "state")
    assert list(outcomes) == [(1, "lost"), (2, "succeeded")]


def test_an_old_agent_takes_over_from_a_dead_new_one() -> None:
    mission = fleet.launch({"a": {}})
    new = Claimant(agent=ids.new(), agent_type="backend", lease_s=0.3)
    agents.register(agent=new.agent, agent_type="backend", node="test", pid=1, start_time=0.0)
    with old_agent() as agent, hot_path.connect(name="test") as session, session.cursor() as cursor:
        (lost_claim,) = settle_and_claim.settle_and_claim(cursor, by=new, max_claims=1).claims

        def try_claim() -> list[Claim]:
            fleet.beat()
            return agent.settle_and_claim(want=1)[0]

        (claim,) = until(try_claim)
        assert (claim.id, claim.attempt) == (lost_claim.id, lost_claim.attempt + 1)
        late = settling.Settlement(id=lost_claim.id, attempt=lost_claim.attempt, state="succeeded", outcome="succeeded")
        assert settle_and_claim.settle_and_claim(cursor, by=new, settlements=[late]).accepted == set()
        _, accepted = agent.settle_and_claim(settlements=[success(claim)])
    assert accepted == {claim.id}
    fleet.beat()
    assert fleet.state(mission.id) == "succeeded"


def test_an_old_agent_does_not_retry_a_cancelled_sortie() -> None:
    mission = fleet.launch({"a": {"retry": {"max_attempts": 3}}})
    with old_agent() as agent:
        (claim,), _ = agent.settle_and_claim(want=1)
        Sortie.objects.filter(id=claim.id).update(cancel_requested=True)
        retry = Settlement(
            id=claim.id, attempt=claim.attempt, state="waiting", outcome="failed", charge=1, waits_for="its next try"
        )
        _, accepted = agent.settle_and_claim(settlements=[retry])
    assert accepted == {claim.id}
    assert fleet.states(mission.id) == {"a": "cancelled"}
