"""Places under a limit go to work that an agent can take.

They are taken back if no agent is left, or if more urgent work is waiting.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.db.models.functions import Now
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import operations as agents
from agents.models import Agent, AgentType
from fleet import errors
from missions.control import admission, alerts, scaling
from missions.models import ConcurrencyKey, Mission, Sortie
from missions.operations import external_agents
from missions.queries import sortie_json
from tests.support import fleet
from tests.support.waiting import until
from tests.support.work import ledger

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

ONE = {"concurrency": {"key": "one", "limit": 1}}


def serve(agent_type: str = "backend", *, concurrency: int = 9) -> UUID:
    return external_agents.register(agent_type=agent_type, concurrency=concurrency).id


def silence(agent: UUID) -> None:
    """Make the last heartbeat of an agent an hour old, before the control loop notices."""
    Agent.objects.filter(id=agent).update(heartbeat_at=Now() - timedelta(hours=1))


def queued_keys() -> set[str]:
    return set(Sortie.objects.filter(state="queued").values_list("key", flat=True))


def test_a_type_without_agents_does_not_hold_a_concurrency_key() -> None:
    serve()
    fleet.launch({"x": {"agent": "testing", "priority": 9, **ONE}, "y": ONE})
    admission.admit()
    assert queued_keys() == {"y"}


def test_a_key_is_taken_back_when_the_last_agent_ends_and_returned_when_one_starts() -> None:
    serve()
    testing = serve("testing")
    fleet.launch({"x": {"agent": "testing", "priority": 9, **ONE}, "y": ONE})
    admission.admit()
    assert queued_keys() == {"x"}
    agents.end(agents=[testing], state=Agent.State.TERMINATED, reason="A test ended it.")
    admission.admit()
    assert queued_keys() == {"y"}
    serve("testing")
    admission.admit()
    assert queued_keys() == {"x"}, "it is more urgent, and y has not started"


@pytest.mark.parametrize("state", ["silent", "draining", "ordered to end"])
def test_an_agent_that_takes_no_work_does_not_serve_its_type(state: str) -> None:
    agent = serve()
    fleet.launch({"x": ONE})
    admission.admit()
    assert queued_keys() == {"x"}
    match state:
        case "silent":
            silence(agent)
        case "draining":
            agents.mark_draining(agent=agent)
        case _:
            agents.order(agents=[agent], order=Agent.Order.DRAIN, reason="A test.")
    admission.admit()
    assert queued_keys() == set()
    assert Sortie.objects.get().state == "ready"


@pytest.mark.parametrize("limit", ["mission", "type"])
def test_limits_of_missions_and_types_follow_the_same_rule(limit: str) -> None:
    serve()
    sorties = {"x": {"agent": "testing", "priority": 9}, "y": {}}
    if limit == "mission":
        fleet.launch(sorties, concurrency=1)
    else:
        AgentType.objects.update(max_running=1)
        fleet.launch(sorties)
    admission.admit()
    assert queued_keys() == {"y"}


def test_sorties_without_limits_are_queued_even_without_agents() -> None:
    fleet.launch({"x": {}})
    admission.admit()
    assert queued_keys() == {"x"}


@pytest.mark.parametrize("limit", ["key", "type"])
def test_a_more_urgent_sortie_gets_the_place_of_a_queued_one(limit: str) -> None:
    agent = serve()
    usual = ONE if limit == "key" else {}
    AgentType.objects.filter(name="backend").update(max_running=1 if limit == "type" else 0)
    mission = fleet.launch({"usual": usual})
    admission.admit()
    assert queued_keys() == {"usual"}
    fleet.launch({"urgent": {"priority": 900, **usual}})
    for _ in range(2):
        admission.admit()
        assert queued_keys() == {"urgent"}
    (lease,) = external_agents.claim(agent=agent)
    fleet.launch({"late": {"priority": 999, **usual}})
    admission.admit()
    assert queued_keys() == set(), "running sorties are not displaced"
    external_agents.complete(token=lease.token)
    admission.admit()
    assert queued_keys() == {"late"}
    ledger.check(mission.id)


def test_a_more_urgent_sortie_of_the_same_mission_gets_the_place_of_a_queued_one() -> None:
    serve()
    gate = {"agent": "testing"}
    fleet.launch({"gate": gate, "usual": {}, "urgent": {"priority": 9, "needs": ["gate"]}}, concurrency=1)
    admission.admit()
    assert queued_keys() == {"usual"}
    Sortie.objects.filter(key="urgent").update(state="ready", remaining=0)
    for _ in range(2):
        admission.admit()
        assert queued_keys() == {"urgent"}


def test_sorties_of_equal_priority_do_not_displace_each_other() -> None:
    serve()
    fleet.launch({"first": ONE})
    admission.admit()
    Sortie.objects.update(turn=1_000)
    fleet.launch({"second": ONE})
    Sortie.objects.filter(key="second").update(turn=1)
    admission.admit()
    assert queued_keys() == {"first"}


def test_a_sortie_blocked_by_another_limit_displaces_nobody() -> None:
    agent = serve()
    fleet.launch({"usual": ONE})
    admission.admit()
    mission = fleet.launch({"runs": {"priority": 9}, "urgent": {"priority": 8, **ONE}}, concurrency=1)
    admission.admit()
    external_agents.claim(agent=agent)
    events = Sortie.objects.get(key="usual").ready_at
    for _ in range(3):
        admission.admit()
    assert fleet.states(mission.id) == {"runs": "running", "urgent": "ready"}
    assert Sortie.objects.get(key="usual").state == "queued"
    assert Sortie.objects.get(key="usual").ready_at == events


def test_an_autoscaled_type_without_agents_gets_one_for_sorties_under_a_limit() -> None:
    agents.join(name="a host", pid=1, start_time=0.0)
    AgentType.objects.filter(name="testing").update(autoscale=True, agents=0)
    fleet.launch({"x": {"agent": "testing", **ONE}})
    admission.admit()
    assert queued_keys() == set()
    Sortie.objects.update(ready_at=Now() - timedelta(minutes=1))
    assert [(item.type, item.spawn) for item in scaling.scale()] == [("testing", 1)]
    admission.admit()
    assert queued_keys() == {"x"}, "an agent that is starting serves it"


def test_a_waiting_sortie_names_the_holder_of_its_key() -> None:
    serve()
    holder = fleet.launch({"build": ONE, "next": ONE})
    admission.admit()
    waiting = fleet.launch({"y": ONE, "z": {"agent": "testing", **ONE}})
    (y, z) = sortie_json.of_mission(waiting, visible=Mission.objects.all())
    assert y["waits_for"] == (
        f"Waits for the concurrency key 'one', which 'build' of mission 'A test' ({holder.ref}) holds."
    )
    assert z["waits_for"] == "Waits for an agent of type testing: none is taking work (check the health of its agents)."
    (y, _) = sortie_json.of_mission(waiting)
    assert y["waits_for"].endswith("which a sortie of another mission holds."), "missions of other users are not named"
    (_, later) = sortie_json.of_mission(holder)
    assert "which 'build' of this mission holds" in later["waits_for"]


def test_many_holders_and_long_names_are_summarised() -> None:
    key = {"concurrency": {"key": "k" * 200, "limit": 3}}
    serve()
    fleet.launch({"n" * 60 + str(n): key for n in range(4)})
    admission.admit()
    (mission,) = [
        mission["waits_for"] for mission in sortie_json.of_mission(Mission.objects.get()) if mission["state"] == "ready"
    ]
    assert "and 2 more hold" in mission
    assert len(mission) < 400


def test_work_without_agents_raises_an_alert_until_an_agent_starts() -> None:
    fleet.launch({"a": {}, "b": {}, "c": ONE})
    admission.admit()
    watch = alerts.AlertMonitor()
    watch.check()
    assert alerts.active() == []
    Sortie.objects.update(ready_at=Now() - timedelta(minutes=9))
    watch.check()
    (alert,) = alerts.active()
    assert (alert["rule"], alert["subject"]) == ("unserved", "backend")
    assert alert["message"] == (
        "3 sorties wait for agents of type backend, and none is taking work. Start one: ./manage.py fleet_agents spawn backend"
    )
    serve()
    Sortie.objects.update(ready_at=Now())
    connection.cursor().execute("UPDATE missions_alert SET seen_at = now() - interval '1 h'")
    watch.check()
    assert alerts.active() == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("launch"), st.sampled_from(["backend", "testing"]), st.integers(0, 3), st.booleans()),
            st.tuples(st.just("claim"), st.sampled_from(["backend", "testing"])),
            st.tuples(st.just("settle"), st.integers(0, 5)),
            st.tuples(st.just("end"), st.sampled_from(["backend", "testing"])),
            st.tuples(st.just("serve"), st.sampled_from(["backend", "testing"])),
        ),
        max_size=14,
    )
)
def test_no_limit_is_exceeded_or_held_by_work_without_agents(steps: list[tuple[object, ...]]) -> None:
    Mission.objects.all().delete()
    Agent.objects.all().delete()
    ConcurrencyKey.objects.all().delete()
    AgentType.objects.filter(name="backend").update(max_running=2)
    agent_ids: dict[str, UUID] = {}
    items: list[external_agents.Lease] = []
    for step in steps:
        match step:
            case ("launch", str(kind), int(priority), bool(keyed)):
                key = {"concurrency": {"key": "one", "limit": 2}} if keyed else {}
                fleet.launch({f"s{n}": {"agent": kind, "priority": priority, **key} for n in range(3)}, concurrency=2)
            case ("claim", str(kind)) if kind in agent_ids:
                with suppress(errors.Conflict):  # it holds as many as it may
                    items += external_agents.claim(agent=agent_ids[kind])
            case ("settle", int(number)) if items:
                external_agents.complete(token=items.pop(number % len(items)).token)
            case ("end", str(kind)) if kind in agent_ids:
                ended_agent = agent_ids.pop(kind)
                items = [lease for lease in items if Sortie.objects.get(id=lease.sortie).agent_id != ended_agent]
                external_agents.leave(agent=ended_agent)
            case ("serve", str(kind)) if kind not in agent_ids:
                agent_ids[kind] = serve(kind)
        admission.admit()
        under_way = Sortie.objects.filter(state__in=["queued", "running"])
        assert under_way.filter(concurrency_key="one").count() <= 2
        assert under_way.filter(agent_type="backend").count() <= 2
        for mission in Mission.objects.all():
            assert under_way.filter(mission=mission).count() <= 2
        assert set(Sortie.objects.filter(state="queued").values_list("agent_type", flat=True)) <= agent_ids.keys()
        before = set(Sortie.objects.values_list("id", "state", "ready_at"))
        admission.admit()
        assert set(Sortie.objects.values_list("id", "state", "ready_at")) == before, "a second run changes nothing"
        for waiting in Sortie.objects.filter(state="ready", mission__state="running", agent_type__in=agent_ids.keys()):
            limits = [under_way.filter(mission=waiting.mission_id)]
            limits += [under_way.filter(concurrency_key="one")] if waiting.concurrency_key else []
            limits += [under_way.filter(agent_type="backend")] if waiting.agent_type_id == "backend" else []
            full = [limit for limit in limits if limit.count() == 2]
            assert full, "it waits although there is room"
            assert any(
                all(item.state == "running" or item.priority >= waiting.priority for item in limit) for limit in full
            ), "a less urgent sortie that has not started holds its place"


def test_concurrent_claims_and_admission_exceed_no_limit() -> None:
    agent = serve(concurrency=64)
    fleet.launch({f"usual{n}": {"concurrency": {"key": "one", "limit": 3}} for n in range(40)})
    ended = threading.Event()
    most = 0

    def work() -> None:
        while not ended.is_set():
            for lease in external_agents.claim(agent=agent, count=2):
                external_agents.complete(token=lease.token)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for number in range(30):
            fleet.launch({"urgent": {"priority": 1 + number % 3, "concurrency": {"key": "one", "limit": 3}}})
            admission.admit()
            most = max(most, Sortie.objects.filter(state__in=["queued", "running"]).count())
        until(lambda: admission.admit() is not None and not Sortie.objects.exclude(state="succeeded").exists())
    finally:
        ended.set()
        worker.join(60)
    assert most <= 3


def test_a_holder_is_named_only_to_users_who_may_see_it() -> None:
    serve()
    fleet.launch({"build": ONE})
    admission.admit()
    mine = fleet.launch({"y": ONE})
    (item,) = sortie_json.of_mission(mine, visible=Mission.objects.filter(id=mine.id))
    assert "which a sortie of another mission holds" in item["waits_for"]
