"""Only one outcome is accepted. The attempt number is the fence, leases follow the database's clock, and a rescue costs
no try."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from agents import operations as agents
from agents.models import Agent
from fleet import ids
from fleet.events.models import Event
from fleet.postgres import hot_path, statements
from missions import claims, operations
from missions.claims import Claim
from missions.control import admission, duties
from missions.engine.settlement import settle_and_claim
from missions.engine.settlement.settling import Settlement
from missions.models import Artifact, Attempt, Output, Sortie
from missions.operations import transitions
from missions.states import MISSION_ARROWS, SORTIE_ARROWS, allowed
from tests.support import fleet
from tests.support.processes.live import run_concurrently
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def database() -> Iterator[hot_path.Connection]:
    session = hot_path.connect(name="test")
    yield session
    session.close()


def registered() -> UUID:
    agent = ids.new()
    agents.register(agent=agent, agent_type="backend", node="test", pid=1, start_time=0.0)
    return agent


def claimant(agent: UUID, *, lease_s: float = 30) -> settle_and_claim.Claimant:
    return settle_and_claim.Claimant(agent=agent, agent_type="backend", lease_s=lease_s)


def claim_one(database: hot_path.Connection, *, agent: UUID, lease_s: float = 30) -> Claim:
    with database.cursor() as cursor, database.transaction():
        (claim,) = settle_and_claim.settle_and_claim(cursor, by=claimant(agent, lease_s=lease_s), max_claims=1).claims
    return claim


def settle(database: hot_path.Connection, claim: Claim, state: str = "succeeded") -> bool:
    text = Settlement(id=claim.id, attempt=claim.attempt, state=state, outcome=state, result="1")
    with database.cursor() as cursor, database.transaction():
        return (
            claim.id in settle_and_claim.settle_and_claim(cursor, by=claimant(ids.new()), settlements=[text]).accepted
        )


def expire(sortie: Sortie) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE missions_sortie SET lease_until = now() - interval '1 s' WHERE id = %s", [sortie.id])


def test_a_late_outcome_is_refused_and_the_second_attempt_counts(database: hot_path.Connection) -> None:
    mission = fleet.launch({"one": {}})
    first = claim_one(database, agent=registered())
    expire(Sortie.objects.get(mission=mission))
    duties.rescue()
    second = claim_one(database, agent=registered())
    assert (first.attempt, second.attempt) == (1, 2)
    assert settle(database, first) is False
    assert settle(database, second) is True
    assert settle(database, second, "failed") is False
    item = Sortie.objects.get(mission=mission)
    assert (item.state, item.tries, item.rescues) == ("succeeded", 0, 1)
    assert dict(Attempt.objects.values_list("number", "state")) == {1: "lost", 2: "succeeded"}


def test_output_progress_and_artifacts_of_a_stale_attempt_are_dropped(database: hot_path.Connection) -> None:
    mission = fleet.launch({"one": {}})
    zombie = claim_one(database, agent=registered())
    expire(Sortie.objects.get(mission=mission))
    duties.rescue()
    claim_one(database, agent=registered())
    item = {"ids": [zombie.id], "attempts": [zombie.attempt]}
    database.execute(
        statements.read("missions.engine.output", "store_output"),
        {**item, "streams": ["stdout"], "ats": [0.0], "texts": ["boo"]},
    )
    database.execute(
        statements.read("missions.engine.output", "record_progress"), {**item, "fractions": [0.5], "notes": ["boo"]}
    )
    database.execute(
        statements.read("missions.artifacts", "record_outputs"),
        {"sortie": zombie.id, "attempt": zombie.attempt, "ids": [ids.new()], "paths": ["x"], "digests": ["0" * 64],
         "sizes": [1], "types": ["text/plain"]},
    )  # fmt: skip
    assert not Output.objects.exists()
    assert not Artifact.objects.exists()
    assert not Attempt.objects.exclude(note="").exists()


def test_a_renewal_returns_the_renewed_and_the_cancelled_leases(database: hot_path.Connection) -> None:
    mission = fleet.launch({"one": {}, "two": {}})
    agent = registered()
    values = [claim_one(database, agent=agent) for _ in range(2)]
    operations.cancel_sortie(sortie=values[0].id)
    expire(Sortie.objects.get(id=values[1].id))
    duties.rescue()
    with database.cursor() as cursor:
        renewal = claims.renew(cursor, attempts=[(item.id, item.attempt) for item in values], lease_s=30)
    assert renewal.renewed == renewal.cancelled == {(values[0].id, 1)}
    assert fleet.states(mission.id)["two"] == "queued"


@pytest.mark.parametrize("state", [Agent.State.TERMINATED, Agent.State.LOST, Agent.State.FAILED])
def test_a_sortie_of_a_dead_agent_is_rescued_early_once_its_processes_are_gone(
    database: hot_path.Connection, state: Agent.State
) -> None:
    mission = fleet.launch({"one": {}})
    agent = registered()
    claim_one(database, agent=agent, lease_s=3_600)
    assert not duties.rescue().accepted
    agents.mark_reaped(agents=[agent])
    assert not duties.rescue().accepted, "the agent is alive"
    agents.end(agents=[agent], state=state, reason="killed")
    assert not duties.rescue().accepted, "its work may still be running"
    agents.mark_reaped(agents=[agent])
    assert duties.rescue().queued == {"backend": 1}
    assert fleet.states(mission.id) == {"one": "queued"}


def test_an_agent_without_heartbeats_keeps_its_sorties_until_their_leases_end(
    database: hot_path.Connection,
) -> None:
    mission = fleet.launch({"one": {}})
    agent = registered()
    claim_one(database, agent=agent)
    Agent.objects.filter(id=agent).update(heartbeat_at=Now() - timedelta(hours=1))
    assert agents.expire(after_s=30, spawn_s=60) == [agent]
    assert Agent.objects.get(id=agent).state == "lost"
    assert not duties.rescue().accepted
    expire(Sortie.objects.get(mission=mission))
    assert not duties.rescue(leases=False).accepted, "while the clock of the database is not trusted"
    assert duties.rescue().queued == {"backend": 1}


def test_a_loss_after_three_rescues_fails_the_sortie_with_the_reason(database: hot_path.Connection) -> None:
    mission = fleet.launch({"killer": {}, "next": {"needs": ["killer"]}})
    for _ in range(4):
        claim_one(database, agent=registered())
        expire(Sortie.objects.get(mission=mission, key="killer"))
        duties.rescue()
    killer = Sortie.objects.get(mission=mission, key="killer")
    assert (killer.state, killer.attempt, killer.tries) == ("failed", 4, 0)
    assert "3 rescues" in Attempt.objects.get(sortie=killer, number=4).error
    assert fleet.states(mission.id)["next"] == "skipped"
    transitions.complete()
    assert fleet.state(mission.id) == "failed"


def test_rescuing_a_sortie_with_a_cancel_request_cancels_it(database: hot_path.Connection) -> None:
    mission = fleet.launch({"one": {}, "two": {"needs": ["one"]}})
    claim_one(database, agent=registered())
    operations.cancel(mission=mission.id)
    assert fleet.state(mission.id) == "cancelling"
    expire(Sortie.objects.get(mission=mission, key="one"))
    duties.rescue()
    transitions.complete()
    assert fleet.states(mission.id) == {"one": "cancelled", "two": "cancelled"}
    assert fleet.state(mission.id) == "cancelled"


def test_returning_an_unstarted_sortie_costs_no_try(database: hot_path.Connection) -> None:
    mission = fleet.launch({"one": {}})
    claim = claim_one(database, agent=registered())
    with database.cursor() as cursor, database.transaction():
        settle_and_claim.give_back(cursor, attempts=[(claim.id, claim.attempt)], why="it had not been started")
    item = Sortie.objects.get(mission=mission)
    assert (item.state, item.tries, item.rescues, item.attempt) == ("queued", 0, 0, 1)
    assert Attempt.objects.get().state == "returned"


def test_a_sortie_cancelled_while_it_is_returned_ends(database: hot_path.Connection) -> None:
    mission = fleet.launch({"one": {}, "two": {"needs": ["one"]}, "last": {"needs": ["one"], "if": "always"}})
    claim = claim_one(database, agent=registered())
    operations.cancel_sortie(sortie=claim.id)
    with database.cursor() as cursor, database.transaction():
        settle_and_claim.give_back(cursor, attempts=[(claim.id, claim.attempt)], why="it had not been started")
    assert fleet.states(mission.id) == {"one": "cancelled", "two": "skipped", "last": "queued"}


def test_a_lost_agent_cannot_claim(database: hot_path.Connection) -> None:
    fleet.launch({"one": {}})
    agent = registered()
    agents.end(agents=[agent], state=Agent.State.LOST, reason="gone")
    with database.cursor() as cursor, database.transaction():
        assert settle_and_claim.settle_and_claim(cursor, by=claimant(agent), max_claims=1).claims == []


def test_urgent_sorties_come_first_and_missions_alternate(database: hot_path.Connection) -> None:
    many = fleet.launch({f"m{n}": {} for n in range(20)})
    few = fleet.launch({f"f{n}": {} for n in range(3)})
    fleet.launch({"now": {"priority": 10}})
    agent = registered()
    order = [claim_one(database, agent=agent) for _ in range(7)]
    assert order[0].key == "now"
    assert {item.mission for item in order[1:3]} == {many.id, few.id}
    assert sum(item.mission == few.id for item in order) == 3


def test_concurrent_agents_never_claim_the_same_sortie() -> None:
    mission = fleet.launch({f"s{n}": {} for n in range(300)})
    engines = [fleet.engine(slots=2) for _ in range(2)]
    threads = [threading.Thread(target=engine.run_slot) for engine in engines for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: Sortie.objects.filter(mission=mission, state="succeeded").count() == 300)
    for engine in engines:
        engine.stop(within_s=5)
    assert Attempt.objects.filter(state="succeeded").count() == 300
    assert not Attempt.objects.exclude(
        state__in=["succeeded", "returned"]
    ).exists()  # a busy machine may start some late
    assert Event.objects.filter(kind="sortie.succeeded", scope=mission.id).count() == 300


def test_two_control_loops_never_admit_more_than_a_key_allows(database: hot_path.Connection) -> None:
    key = {"concurrency": {"key": "database", "limit": 2}}
    mission = fleet.launch({f"s{n}": key for n in range(10)})
    agent = registered()
    for _ in range(10):
        run_concurrently(*[admission.admit] * 2)
        values = Sortie.objects.filter(mission=mission, state__in=["queued", "running"]).count()
        assert values <= 2
        if Sortie.objects.filter(mission=mission, state="queued").exists():
            assert settle(database, claim_one(database, agent=agent))
    assert Sortie.objects.filter(mission=mission, state="succeeded").count() >= 9


def test_two_siblings_that_finish_at_once_free_their_dependent_once(database: hot_path.Connection) -> None:
    mission = fleet.launch({"a": {}, "b": {}, "join": {"needs": ["a", "b"]}})
    agent = registered()
    first, second = claim_one(database, agent=agent), claim_one(database, agent=agent)
    other = hot_path.connect(name="other")
    with database.transaction(), database.cursor() as cursor:
        text = Settlement(id=first.id, attempt=1, state="succeeded", outcome="succeeded")
        settle_and_claim.settle_and_claim(cursor, by=claimant(ids.new()), settlements=[text])
        late = threading.Thread(target=settle, args=(other, second))
        late.start()
        late.join(0.3)
        assert late.is_alive()  # it waits for the row of the join, then continues counting
    late.join()
    other.close()
    assert fleet.states(mission.id)["join"] == "queued"
    assert Event.objects.filter(kind="sortie.queued", subject=Sortie.objects.get(key="join").id).count() == 1


def test_the_database_refuses_transitions_that_the_table_does_not_allow() -> None:
    mission = fleet.launch({"one": {}})
    for change in (
        "state = 'running'",
        "state = 'succeeded'",
        "lease_until = now()",
        "state = 'waiting'",
        "remaining = -1",
    ):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE missions_sortie SET {change} WHERE mission_id = %s", [mission.id])


def test_every_event_of_a_long_run_is_a_transition_of_the_table(database: hot_path.Connection) -> None:
    engine = fleet.engine()
    retry = {"max_attempts": 2, "backoff": "0.01s"}
    mission = fleet.launch(
        {
            "ok": {}, "flaky": {"with": {"fail_times": 1}, "retry": retry}, "bad": {"with": {"fail": "x"}},
            "skipped": {"needs": ["bad"]}, "always": {"needs": ["skipped"], "if": "always"},
            "gated": {"concurrency": {"key": "k", "limit": 1}}, "timed": {"run_at": "2000-01-01T00:00:00+00:00"},
        }
    )  # fmt: skip
    fleet.run_to_end(engine, mission)
    operations.retry(mission=mission.id, can_execute=True)
    operations.pause(mission=mission.id)
    operations.resume(mission=mission.id, can_execute=True)
    operations.cancel(mission=mission.id)
    fleet.run_to_end(engine, mission)
    engine.stop(within_s=5)
    count = 0
    for event in Event.objects.filter(scope=mission.id):
        noun, _, state = event.kind.partition(".")
        if noun == "checkpoint":  # captured before it was cancelled
            continue
        arrows = SORTIE_ARROWS if noun == "sortie" else MISSION_ARROWS
        assert allowed(arrows, event.data.get("from"), state), (event.kind, event.data)
        count += 1
    assert count > 25


def test_without_any_message_nothing_is_lost() -> None:
    engine = fleet.engine()
    mission = fleet.launch({"a": {}, "b": {"needs": ["a"]}})
    until(lambda: (transitions.complete(), fleet.state(mission.id))[1] == "succeeded")
    engine.stop(within_s=5)


def test_unstarted_claims_are_returned_while_one_sortie_runs_long(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    flag = tmp_path_factory.mktemp("flags") / "go"
    engine = fleet.engine(slots=1)
    warm = fleet.launch({f"w{n}": {} for n in range(64)})
    fleet.run_to_end(engine, warm)
    mission = fleet.launch(
        {"long": {"priority": 5, "with": {"hold_until": str(flag)}}, **{f"s{n}": {} for n in range(5)}}
    )
    thread = threading.Thread(target=engine.run_slot)
    thread.start()
    until(lambda: Sortie.objects.filter(mission=mission, state="queued").count() == 5)
    helper = fleet.engine(slots=1)
    helper.run_slot()
    until(lambda: Sortie.objects.filter(mission=mission, state="succeeded").count() == 5)
    flag.touch()
    thread.join()
    for item in (engine, helper):
        item.stop(within_s=5)
    until(lambda: (transitions.complete(), fleet.state(mission.id))[1] == "succeeded")
    assert set(Sortie.objects.filter(mission=mission).values_list("tries", flat=True)) == {0}
