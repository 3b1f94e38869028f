"""Concurrency keys, missions and agent types limit the running sorties, whichever control loop admits them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from agents.models import AgentType
from checkpoints import operations as checkpoints
from fleet import ids
from fleet.celery import app
from missions import operations
from missions.control import admission
from missions.control.loop import ControlLoop
from missions.hints import HintPublisher
from missions.models import ConcurrencyKey, Mission, Sortie
from missions.operations import external_agents
from missions.plan import PlanError
from missions.queries import sortie_json
from tests.support import fleet
from tests.support.processes.live import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture(autouse=True)
def serving_agents(transactional_db: None) -> None:
    """Run an agent of each type, because places go only to work that an agent can take."""
    for agent_type in ("backend", "testing"):
        external_agents.register(agent_type=agent_type)


def count_active(**filters: object) -> int:
    return Sortie.objects.filter(state__in=["queued", "running"], **filters).count()


def limited(sorties: int, **plan: Any) -> Mission:
    return fleet.launch({f"s{n}": {} for n in range(sorties)}, **plan)


def test_the_plan_limits_the_running_sorties_of_its_mission() -> None:
    mission, other = limited(6, concurrency=2), limited(3)
    agent = external_agents.register(agent_type="backend", concurrency=9).id
    assert (count_active(mission=mission), count_active(mission=other)) == (0, 3)
    most = 0
    for _ in range(20):
        admission.admit()
        most = max(most, count_active(mission=mission))
        for lease in external_agents.claim(agent=agent, count=9):
            external_agents.complete(token=lease.token)
    assert most == 2
    mission.refresh_from_db()
    assert mission.state == "succeeded"


def test_an_agent_type_limits_its_running_sorties_in_the_whole_fleet() -> None:
    AgentType.objects.filter(name="backend").update(max_running=3)
    first, second = limited(4), fleet.launch({"t": {"agent": "testing"}, **{f"s{n}": {} for n in range(4)}})
    admission.admit()
    assert count_active(agent_type="backend") == 3
    assert count_active(agent_type="testing") == 1
    assert {first.id, second.id} == set(Sortie.objects.filter(state="queued").values_list("mission", flat=True))


def limit(max_running: int) -> None:
    AgentType.objects.filter(name="backend").update(max_running=max_running)


def test_a_new_or_lower_limit_applies_to_queued_sorties_but_not_to_running_ones() -> None:
    mission = fleet.launch({f"s{n}": {"priority": n} for n in range(8)})
    agent = external_agents.register(agent_type="backend", concurrency=9).id
    (running,) = external_agents.claim(agent=agent, count=1)
    assert count_active() == 8
    limit(5)
    admission.admit()
    assert count_active() == 5
    limit(3)
    admission.admit()
    active_keys = (
        Sortie.objects.filter(state__in=["queued", "running"]).order_by("-priority").values_list("key", flat=True)
    )
    assert list(active_keys) == ["s7", "s6", "s5"]  # the most urgent
    limit(1)
    admission.admit()
    assert external_agents.claim(agent=agent, count=9) == []
    external_agents.complete(token=running.token)
    limit(0)
    admission.admit()
    assert count_active() == 7
    assert mission.sorties.filter(state="ready").count() == 0


def test_a_new_limit_applies_to_pending_sorties_until_it_is_lifted() -> None:
    control = ControlLoop(hint_publisher=HintPublisher(app))
    fleet.launch({"root": {}, **{f"s{n}": {"needs": ["root"]} for n in range(6)}, "end": {"needs": ["s0"]}})
    control.beat()
    limit(2)
    control.beat()
    agent = external_agents.register(agent_type="backend", concurrency=9).id
    (root,) = external_agents.claim(agent=agent, count=1)
    external_agents.complete(token=root.token)
    assert count_active() == 0  # freed by its need, but not queued before it is admitted
    control.beat()
    first = external_agents.claim(agent=agent, count=9)
    assert len(first) == 2
    limit(0)
    control.beat()
    assert count_active() == 6
    for lease in first:
        external_agents.complete(token=lease.token)
    assert Sortie.objects.get(key="end").state == "queued"  # immediately again


def test_run_at_and_keys_still_apply_after_the_limit_of_a_type_is_lifted() -> None:
    fleet.launch(
        {
            "root": {},
            "later": {"needs": ["root"], "run_at": "2999-01-01T00:00:00Z"},
            "keyed": {"needs": ["root"], "concurrency": {"key": "one", "limit": 1}},
            "plain": {"needs": ["root"]},
        }
    )
    values = Sortie.objects.filter(gated=True).values_list("key", flat=True)
    limit(2)
    admission.update_gated()
    assert values.count() == 3
    limit(0)
    admission.update_gated()
    assert set(values) == {"later", "keyed"}


def test_a_sortie_that_waits_under_a_limit_says_so() -> None:
    mission = limited(2, concurrency=1)
    admission.admit()
    values = {item["key"]: item["waits_for"] for item in sortie_json.of_mission(mission)}
    assert "its mission may have at most 1 sorties queued or running" in values["s1"]


def test_a_full_key_does_not_delay_other_sorties_of_the_mission() -> None:
    AgentType.objects.filter(name="backend").update(max_running=2)
    full = {"concurrency": {"key": "one", "limit": 1}}
    fleet.launch({f"k{n}": {"priority": 9, **full} for n in range(3)} | {"free": {}})
    admission.admit()
    assert set(Sortie.objects.filter(state="queued").values_list("key", flat=True)) == {"k0", "free"}


def test_two_control_loops_do_not_admit_twice_for_one_place() -> None:
    mission = limited(30, concurrency=4)
    for _ in range(5):
        run_concurrently(*[admission.admit] * 3)
        assert count_active(mission=mission) == 4


def test_an_invalid_limit_is_refused() -> None:
    for nonsense in (0, -1, "many", 1.5):
        with pytest.raises(PlanError, match="concurrency"):
            limited(1, concurrency=nonsense)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("mn"), st.sampled_from(["k", "l", None])), max_size=30
    ),
    room=st.fixed_dictionaries({name: st.integers(1, 5) for name in "abmnkl"}),
)
def test_admitted_sorties_fit_and_the_others_would_not(
    rows: list[tuple[str, str, str | None]], room: dict[str, int]
) -> None:
    missions = {name: ids.new() for name in "mn"}
    values = [
        admission.Contender(
            ids.new(), kind, missions[mission], key, False, room[key] if key else None, room[mission], room[kind]
        )
        for kind, mission, key in rows
    ]
    chosen = set(admission.choose(values))
    counts: Counter[object] = Counter()
    for sortie, kind, mission, key, *_ in values:
        limit_keys: list[tuple[object, str]] = [(kind, kind), (mission, "m" if mission == missions["m"] else "n")]
        limit_keys += [(key, key)] if key else []
        fits = all(counts[name] < room[letter] for name, letter in limit_keys)
        assert (sortie in chosen) == fits
        counts.update(name for name, _ in limit_keys if fits)


def keyed(limit: int) -> dict[str, object]:
    return {f"s{n}": {"concurrency": {"key": "deploy", "limit": limit}} for n in range(3)}


def end(mission: Mission) -> None:
    operations.cancel(mission=mission.id)


def test_a_launch_does_not_raise_the_limit_of_a_key_while_others_use_it() -> None:
    first = fleet.launch(keyed(1))
    fleet.launch(keyed(50))
    admission.admit()
    assert count_active(concurrency_key="deploy") == 1
    end(first)
    fleet.launch({"s": {"concurrency": {"key": "deploy", "limit": 1}}})
    admission.admit()
    assert count_active(concurrency_key="deploy") == 1


def test_a_launch_may_lower_the_limit_of_a_key() -> None:
    fleet.launch(keyed(50))
    fleet.launch(keyed(2))
    admission.admit()
    assert count_active(concurrency_key="deploy") == 2


def test_once_nothing_else_uses_a_key_a_launch_sets_its_limit() -> None:
    end(fleet.launch(keyed(1)))
    fleet.launch(keyed(3))
    admission.admit()
    assert count_active(concurrency_key="deploy") == 3


def test_concurrent_launches_leave_a_key_with_the_lowest_of_their_limits() -> None:
    def launch(limit: int) -> None:
        try:
            fleet.launch(keyed(limit))
        finally:
            connection.close()

    for _ in range(5):
        launches = [threading.Thread(target=launch, args=(limit,)) for limit in (1, 50, 50)]
        for thread in launches:
            thread.start()
        for thread in launches:
            thread.join()
        assert ConcurrencyKey.objects.get(key="deploy").limit == 1
        for mission in Mission.objects.filter(finished_at=None):
            end(mission)


def test_a_retried_sortie_has_its_limit_again() -> None:
    mission = fleet.launch(keyed(1))
    end(mission)
    fleet.launch(keyed(50))
    operations.retry(mission=mission.id, can_execute=True)
    admission.admit()
    assert count_active(concurrency_key="deploy") == 1


def test_a_fork_has_the_limits_of_its_checkpoint() -> None:
    mission = fleet.launch(keyed(1))
    checkpoint = checkpoints.capture(missions=[mission.id])
    end(mission)
    fleet.launch(keyed(50))
    fork = checkpoints.fork(checkpoint=checkpoint, can_execute=True).mission
    operations.resume(mission=fork.id, can_execute=True)
    admission.admit()
    assert count_active(concurrency_key="deploy") == 1
