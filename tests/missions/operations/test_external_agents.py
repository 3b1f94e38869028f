"""An external agent claims with a token, renews its lease, reports and settles; a stale token is a conflict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from agents import operations as agents
from agents.models import Agent, AgentType
from agents.operations import types
from fleet import errors, ids
from missions import operations
from missions.attempt_tokens import StaleLease
from missions.control import duties
from missions.engine.process.runtime import Engine
from missions.models import Attempt, Mission, Output, Sortie
from missions.operations import external_agents
from missions.operations.external_agents import Lease
from missions.queries import sortie_json
from tests.support import fleet
from tests.support.work import ledger

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def claim_one(agent: UUID) -> Lease:
    (lease,) = external_agents.claim(agent=agent)
    return lease


def expire(lease: Lease) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE missions_sortie SET lease_until = now() - interval '1 s' WHERE id = %s", [lease.sortie])
    duties.rescue()


@pytest.fixture
def agent() -> UUID:
    return external_agents.register(agent_type="backend", concurrency=4).id


def test_an_agent_holds_at_most_its_concurrency() -> None:
    fleet.launch({f"s{n}": {} for n in range(4)})
    agent = external_agents.register(agent_type="backend", concurrency=2).id
    first, _ = external_agents.claim(agent=agent, count=3)
    with pytest.raises(errors.Conflict, match="holds 2 sorties, as many as its concurrency allows"):
        external_agents.claim(agent=agent)
    external_agents.complete(token=first.token)
    assert len(external_agents.claim(agent=agent, count=3)) == 1


def test_an_external_agent_runs_a_mission_to_its_end(agent: UUID) -> None:
    mission = fleet.launch(
        {"one": {"run": "make it"}, "two": {"needs": ["one"], "run": ["tell", "{{ needs.one.result.n }}"]}}
    )
    first = claim_one(agent)
    assert (first.key, first.attempt, first.work["run"], first.work["needs"]) == ("one", 1, "make it", {})
    assert Agent.objects.get(id=agent).state == "busy"
    assert external_agents.complete(token=first.token, result={"n": 7}) == "succeeded"
    second = claim_one(agent)
    assert (second.work["run"], second.work["needs"]) == (["tell", "7"], {"one": {"n": 7}})
    external_agents.complete(token=second.token)
    mission.refresh_from_db()
    assert mission.state == "succeeded"
    assert external_agents.claim(agent=agent) == []
    assert Agent.objects.get(id=agent).settled == 2
    ledger.check(mission.id)


def test_external_types_accept_prompts_and_no_node_starts_their_agents() -> None:
    AgentType.objects.create(name="poet", external=True, agents=0)
    mission = fleet.launch({"ode": {"agent": "poet", "prompt": "An ode to {{ mission.name }}"}})
    lease = claim_one(external_agents.register(agent_type="poet").id)
    assert lease.work["prompt"] == f"An ode to {mission.name}"
    with pytest.raises(errors.Conflict, match="are external: no node starts them"):
        agents.spawn(type="poet")


def test_an_agent_of_a_node_cannot_claim_work_of_a_type_that_became_external(engine: Engine) -> None:
    types.change(name="backend", changes={"external": True})
    mission = fleet.launch({"ask": {"prompt": "What is the answer?"}})
    assert engine.run_slot() == 0
    lease = claim_one(external_agents.register(agent_type="backend").id)
    assert (lease.key, lease.attempt) == ("ask", 1)
    external_agents.complete(token=lease.token)
    mission.refresh_from_db()
    assert mission.state == "succeeded"


def test_a_heartbeat_renews_the_lease_and_reports_a_cancel_request(agent: UUID) -> None:
    mission = fleet.launch({"one": {}, "two": {}})
    leases = external_agents.claim(agent=agent, count=2)
    before = Sortie.objects.get(id=leases[0].sortie).lease_until
    operations.cancel_sortie(sortie=leases[1].sortie)
    renewal = external_agents.heartbeat(agent=agent, tokens=[lease.token for lease in leases])
    assert renewal.renewed == {lease.token for lease in leases}
    assert renewal.cancelled == {leases[1].token}
    after = Sortie.objects.get(id=leases[0].sortie).lease_until
    assert before is not None
    assert after is not None
    assert after > before
    assert mission.state == "running"


def test_a_stale_token_gets_a_conflict_everywhere(agent: UUID) -> None:
    fleet.launch({"one": {}})
    lease = claim_one(agent)
    expire(lease)
    for late in (
        lambda: external_agents.complete(token=lease.token),
        lambda: external_agents.fail(token=lease.token, error="no"),
        lambda: external_agents.progress(token=lease.token, fraction=0.5),
        lambda: external_agents.give_back(token=lease.token),
        lambda: external_agents.heartbeat(agent=agent, tokens=[lease.token]),
    ):
        with pytest.raises(StaleLease):
            late()
    new_lease = claim_one(agent)
    assert new_lease.attempt == 2
    with pytest.raises(StaleLease):
        external_agents.complete(token=lease.token)
    assert external_agents.complete(token=new_lease.token) == "succeeded"


def test_a_token_opens_only_its_own_attempt(agent: UUID) -> None:
    fleet.launch({"one": {}, "two": {}})
    first, second = external_agents.claim(agent=agent, count=2)
    forged = first.token.rsplit(".", 1)[0] + "." + second.token.rsplit(".", 1)[1]
    with pytest.raises(errors.NotFound):
        external_agents.complete(token=forged)
    for nonsense in ("", "x", "srt_1.2.3", first.token + "x", first.token.replace(".1.", ".9999999999999.")):
        with pytest.raises(errors.FleetError):
            external_agents.complete(token=nonsense)
    assert first.token not in str(list(Attempt.objects.values()))
    assert external_agents.heartbeat(agent=agent, tokens=[forged, second.token]).renewed == {second.token}


def test_repeating_an_outcome_returns_the_first_response(agent: UUID) -> None:
    mission = fleet.launch({"one": {}, "two": {"retry": {"max_attempts": 2, "backoff": "1h"}}})
    first, second = external_agents.claim(agent=agent, count=2)
    assert [external_agents.complete(token=first.token, result=1) for _ in range(2)] == ["succeeded", "succeeded"]
    assert [external_agents.fail(token=second.token, error="no") for _ in range(2)] == ["waiting", "waiting"]
    with pytest.raises(StaleLease):
        external_agents.fail(token=first.token, error="or rather not")
    ledger.check(mission.id)


@pytest.mark.parametrize("result", [None, 1, 1e300, 0.1, "x", [], {"b": [1, None], "a": "é"}])
def test_completing_with_another_result_is_a_conflict(agent: UUID, result: Any) -> None:
    fleet.launch({"one": {}})
    token = claim_one(agent).token
    assert [external_agents.complete(token=token, result=result) for _ in range(2)] == ["succeeded", "succeeded"]
    with pytest.raises(errors.Conflict, match="another result, which is kept"):
        external_agents.complete(token=token, result={"other": 1})
    assert Attempt.objects.get().result != {"other": 1}


def test_reported_progress_and_output_are_shown(agent: UUID) -> None:
    fleet.launch({"one": {}})
    lease = claim_one(agent)
    external_agents.progress(token=lease.token, fraction=0.4, note="reading\x00", output="hello\n")
    attempt = Attempt.objects.get()
    assert (attempt.progress, attempt.note) == (0.4, "reading�")
    assert Output.objects.get().text == "hello\n"


@pytest.mark.parametrize(("verified", "state"), [(0, "succeeded"), (1, "failed"), (None, "failed")])
def test_verify_decides_about_success(agent: UUID, verified: int | None, state: str) -> None:
    mission = fleet.launch({"one": {"run": "true", "verify": "test -f out"}})
    lease = claim_one(agent)
    assert lease.work["verify"] == "test -f out"
    assert external_agents.complete(token=lease.token, verified=verified) == state
    if state == "failed":
        assert "`verify` failed" in str(next(sortie_json.of_mission(mission))["error"])


@pytest.mark.parametrize("result", [float("nan"), object(), "x" * 1_100_000])
def test_an_invalid_or_too_large_result_is_refused_and_the_lease_is_kept(agent: UUID, result: object) -> None:
    fleet.launch({"one": {}})
    lease = claim_one(agent)
    with pytest.raises(errors.Invalid):
        external_agents.complete(token=lease.token, result=result)
    assert external_agents.complete(token=lease.token, result="small") == "succeeded"


def test_a_failure_without_retry_fails_the_sortie_at_once(agent: UUID) -> None:
    fleet.launch({"one": {"retry": {"max_attempts": 5}}})
    assert external_agents.fail(token=claim_one(agent).token, error="hopeless", retry=False) == "failed"


def test_a_silent_agent_is_lost_and_its_sorties_continue_elsewhere(agent: UUID) -> None:
    mission = fleet.launch({"one": {}})
    lease = claim_one(agent)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE agents_agent SET heartbeat_at = now() - interval '1 h' WHERE id = %s", [agent])
    assert duties.expire() == [agent]
    duties.rescue()
    assert fleet.states(mission.id) == {"one": "running"}, "it is rescued only after its lease has ended"
    expire(lease)
    assert fleet.states(mission.id) == {"one": "queued"}
    with pytest.raises(agents.AgentEnded):
        external_agents.claim(agent=agent)
    with pytest.raises(StaleLease):
        external_agents.complete(token=lease.token)


def test_sorties_of_an_agent_that_leaves_are_queued_again(agent: UUID) -> None:
    mission = fleet.launch({"one": {}, "two": {}})
    leases = external_agents.claim(agent=agent, count=2)
    external_agents.give_back(token=leases[0].token)
    assert sorted(fleet.states(mission.id).values()) == ["queued", "running"]
    external_agents.leave(agent=agent)
    assert set(fleet.states(mission.id).values()) == {"queued"}
    assert Agent.objects.get(id=agent).state == "terminated"
    assert set(Sortie.objects.values_list("tries", flat=True)) == {0}


def test_a_draining_agent_claims_nothing_and_ends_after_its_sorties(agent: UUID) -> None:
    mission = fleet.launch({"one": {}, "two": {}})
    lease = claim_one(agent)
    agents.order(agents=[agent], order=Agent.Order.DRAIN, reason="Enough.")
    with pytest.raises(errors.Conflict, match="ordered to drain"):
        external_agents.claim(agent=agent)
    assert external_agents.heartbeat(agent=agent, tokens=[lease.token]).renewed == {lease.token}
    external_agents.progress(token=lease.token, fraction=0.5)
    assert external_agents.complete(token=lease.token) == "succeeded"
    with pytest.raises(agents.AgentEnded, match="Enough"):
        external_agents.heartbeat(agent=agent)
    assert fleet.states(mission.id) == {"one": "succeeded", "two": "queued"}
    row = Agent.objects.get(id=agent)
    assert (row.state, row.reason) == ("terminated", "Enough.")


@pytest.mark.parametrize("order", [Agent.Order.TERMINATE, Agent.Order.NOW])
@pytest.mark.parametrize("next_request", ["claim", "heartbeat", "keep", "progress"])
def test_a_terminated_agent_ends_at_its_next_request_and_returns_its_sorties(
    agent: UUID, order: Agent.Order, next_request: str
) -> None:
    mission = fleet.launch({"one": {}, "two": {}})
    lease = claim_one(agent)
    agents.order(agents=[agent], order=order, reason="A new version.")
    requests: dict[str, Callable[[], object]] = {
        "claim": lambda: external_agents.claim(agent=agent),
        "heartbeat": lambda: external_agents.heartbeat(agent=agent, tokens=[lease.token]),
        "keep": lambda: external_agents.renew_lease(token=lease.token),
        "progress": lambda: external_agents.progress(token=lease.token, note="at work"),
    }
    with pytest.raises(agents.AgentEnded, match="A new version"):
        requests[next_request]()
    assert Agent.objects.get(id=agent).state == "terminated"
    assert fleet.states(mission.id) == {"one": "queued", "two": "queued"}
    assert set(Sortie.objects.values_list("tries", flat=True)) == {0}
    with pytest.raises(StaleLease):
        external_agents.complete(token=lease.token)


def test_an_unknown_type_and_an_unknown_agent_are_not_found() -> None:
    with pytest.raises(errors.NotFound):
        external_agents.register(agent_type="nonsense")
    with pytest.raises(errors.Conflict):
        external_agents.claim(agent=ids.new())
    assert not Mission.objects.exists()


def test_an_invalid_result_is_refused_with_its_pointer(agent: UUID) -> None:
    fleet.launch({"a": {}})
    lease = claim_one(agent)
    with pytest.raises(errors.Invalid, match="the value at /files/1/size is not a finite number"):
        external_agents.complete(token=lease.token, result={"files": [{}, {"size": float("nan")}]})
    assert external_agents.complete(token=lease.token, result={"files": [{}, {"size": 1e23}]}) == "succeeded"
    assert Attempt.objects.get(sortie=lease.sortie).result == {"files": [{}, {"size": 1e23}]}
