"""An order at an awkward moment is carried out completely, or refused with a hint."""

from __future__ import annotations

from typing import Any

import pytest

from agents.drivers.base import Evidence
from fleet import errors
from missions import operations
from missions.claims import Claim
from missions.control import admission
from missions.engine.process.runtime import Engine
from missions.engine.settlement import verdict
from missions.engine.settlement.settling import Settlement
from missions.models import Mission, Sortie
from missions.plan import SortieSpec
from tests.support import fleet
from tests.support.work import ledger
from tests.support.work.simulated_agents import SimulatedAgent

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def sortie(mission: Mission, key: str) -> Sortie:
    return Sortie.objects.get(mission=mission, key=key)


def settlement(claim: Claim, *, ok: bool) -> Settlement:
    evidence = Evidence(finished=True, ok=ok, error="" if ok else "no")
    return verdict.judge(claim=claim, spec=SortieSpec.from_json(claim.spec), evidence=evidence)


def test_an_ended_mission_can_be_retried_but_not_resumed(engine: Engine) -> None:
    mission = fleet.launch({"bad": {"with": {"fail": "no"}}})
    fleet.run_to_end(engine, mission)
    with pytest.raises(errors.Conflict, match="Retry it"):
        operations.resume(mission=mission.id, can_execute=True)
    assert fleet.state(mission.id) == "failed"


def test_a_paused_mission_can_be_resumed_but_not_retried(engine: Engine) -> None:
    mission = fleet.launch({"bad": {"with": {"fail": "no"}}, "apart": {"run_at": "2100-01-01T00:00:00+00:00"}})
    engine.run_slot()
    operations.pause(mission=mission.id)
    with pytest.raises(errors.Conflict, match="Resume it"):
        operations.retry(mission=mission.id, can_execute=True)
    assert fleet.state(mission.id) == "paused"


def test_a_sortie_with_two_failed_needs_is_skipped_until_both_are_retried(engine: Engine) -> None:
    fails_once = {"with": {"fail_times": 1}}
    mission = fleet.launch(
        {"a": fails_once, "b": fails_once, "both": {"needs": ["a", "b"]}, "last": {"needs": ["both"]},
         "tidy": {"needs": ["last"], "if": "always"}}
    )  # fmt: skip
    assert fleet.run_to_end(engine, mission) == "failed"
    operations.retry_sortie(sortie=sortie(mission, "a").id, can_execute=True)
    assert fleet.run_to_end(engine, mission) == "failed"
    assert fleet.states(mission.id) == {
        "a": "succeeded", "b": "failed", "both": "skipped", "last": "skipped", "tidy": "succeeded",
    }  # fmt: skip
    assert "because b did not succeed" in sortie(mission, "both").waits_for
    operations.retry_sortie(sortie=sortie(mission, "b").id, can_execute=True)
    assert fleet.run_to_end(engine, mission) == "succeeded"
    ledger.check(mission.id)


def test_a_sortie_that_is_about_to_start_waits_for_a_retried_need(engine: Engine) -> None:
    mission = fleet.launch(
        {"a": {"with": {"fail_times": 1}}, "tidy": {"needs": ["a"], "if": "always", "agent": "testing"}}
    )
    engine.run_slot()
    assert fleet.states(mission.id) == {"a": "failed", "tidy": "queued"}
    operations.retry_sortie(sortie=sortie(mission, "a").id, can_execute=True)
    assert fleet.states(mission.id) == {"a": "ready", "tidy": "pending"}
    ledger.check(mission.id)


def test_a_need_cannot_be_retried_while_a_dependent_runs() -> None:
    mission = fleet.launch({"a": {}, "b": {"needs": ["a"]}, "tidy": {"needs": ["b"], "if": "always"}})
    agent = SimulatedAgent()
    try:
        (claim,) = agent.committer.settle_and_claim(max_claims=1)
        (tidy,) = agent.committer.settle_and_claim(settlements=[settlement(claim, ok=False)], max_claims=1)
        before = {"a": "failed", "b": "skipped", "tidy": "running"}
        assert fleet.states(mission.id) == before
        with pytest.raises(errors.Conflict, match="are still running: tidy"):
            operations.retry_sortie(sortie=claim.id, can_execute=True)
        assert fleet.states(mission.id) == before
        agent.committer.settle_and_claim(settlements=[settlement(tidy, ok=True)])
        operations.retry_sortie(sortie=claim.id, can_execute=True)
        admission.admit()
        assert fleet.states(mission.id) == {"a": "queued", "b": "pending", "tidy": "pending"}
    finally:
        agent.end()


def test_a_skipped_sortie_cannot_be_retried_before_its_failed_need(engine: Engine) -> None:
    mission = fleet.launch({"a": {"with": {"fail": "no"}}, "b": {"needs": ["a"]}})
    assert fleet.run_to_end(engine, mission) == "failed"
    with pytest.raises(errors.Conflict, match="b was skipped because a did not succeed"):
        operations.retry_sortie(sortie=sortie(mission, "b").id, can_execute=True)
    assert fleet.state(mission.id) == "failed"
    ledger.check(mission.id)


def test_run_at_still_applies_after_a_retry() -> None:
    mission = fleet.launch({"later": {"run_at": "2100-01-01T00:00:00+00:00"}})
    admission.admit()
    operations.cancel_sortie(sortie=sortie(mission, "later").id)
    operations.retry_sortie(sortie=sortie(mission, "later").id, can_execute=True)
    admission.admit()
    assert fleet.states(mission.id) == {"later": "waiting"}


def test_a_sortie_cancelled_while_it_fails_is_not_retried() -> None:
    mission = fleet.launch({"flaky": {"retry": {"max_attempts": 3, "backoff": "1h"}}, "other": {}})
    agent = SimulatedAgent()
    try:
        (claim, _) = agent.committer.settle_and_claim(max_claims=2)
        operations.cancel_sortie(sortie=claim.id)
        agent.committer.settle_and_claim(settlements=[settlement(claim, ok=False)])
    finally:
        agent.end()
    states: dict[str, Any] = fleet.states(mission.id)
    assert states[claim.key] in {"cancelled", "failed"}


def test_a_sortie_of_a_mission_being_cancelled_cannot_be_retried() -> None:
    mission = fleet.launch({"one": {}, "two": {}})
    agent = SimulatedAgent()
    try:
        (claim,) = agent.committer.settle_and_claim(max_claims=1)
        operations.cancel(mission=mission.id)
        other = Sortie.objects.get(mission=mission, state="cancelled")
        with pytest.raises(errors.Conflict, match="Wait until it is cancelled"):
            operations.retry_sortie(sortie=other.id, can_execute=True)
        assert fleet.states(mission.id) == {other.key: "cancelled", claim.key: "running"}
    finally:
        agent.end()
