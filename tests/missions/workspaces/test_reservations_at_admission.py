"""Sorties whose plans reserve overlapping files do not work at the same time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet import ids
from missions.control import admission, file_contest
from missions.models import Conflict, Mission, Reservation, Sortie
from missions.operations import external_agents, reserving
from missions.plan import globs
from missions.queries import sortie_json
from missions.workspaces.reservation_index import ReservationIndex, ReservedPattern
from tests.support import fleet, repository

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def serving_agent(transactional_db: None) -> None:
    """Run an agent of the type, because files are reserved only for work that an agent can take."""
    external_agents.register(agent_type="backend")


@pytest.fixture
def project(tmp_path: Path) -> repository.Repository:
    return repository.create(tmp_path / "project", {"README.md": "A project\n"})


def launch(project: repository.Repository, sorties: dict[str, Any], **plan: Any) -> Mission:
    return fleet.launch(sorties, workspace={"repository": str(project.path), **plan.pop("workspace", {})}, **plan)


def states(mission: Mission) -> dict[str, str]:
    return dict(Sortie.objects.filter(mission=mission).order_by("turn").values_list("key", "state"))


def admit(mission: Mission) -> list[str]:
    admission.admit()
    return [key for key, state in states(mission).items() if state == "queued"]


def end(mission: Mission, key: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE missions_sortie SET state = 'succeeded', finished_at = now() WHERE mission_id = %s AND key = %s",
            [mission.id, key],
        )


def test_only_the_first_of_two_sorties_with_the_same_files_is_queued_and_the_other_says_why_it_waits(
    project: repository.Repository,
) -> None:
    mission = launch(project, {"api": {"touches": ["src/**"]}, "view": {"touches": ["src/view.py"]}, "free": {}})
    assert admit(mission) == ["api", "free"]
    waiting = next(item for item in sortie_json.of_mission(mission) if item["key"] == "view")
    assert (waiting["state"], waiting["waits_for"]) == ("ready", "Waits for api, which has reserved src/**.")
    assert admit(mission) == ["api", "free"]
    end(mission, "api")
    assert admit(mission) == ["view", "free"]


def test_readers_share_files_and_a_writer_waits_for_all_of_them(project: repository.Repository) -> None:
    mission = launch(
        project, {"r1": {"reads": ["docs"]}, "r2": {"reads": ["docs/*.md"]}, "writer": {"touches": ["docs/a.md"]}}
    )
    assert admit(mission) == ["r1", "r2"]
    end(mission, "r1")
    assert admit(mission) == ["r2"]
    end(mission, "r2")
    assert admit(mission) == ["writer"]


def test_a_later_sortie_does_not_overtake_an_earlier_one_that_it_overlaps(project: repository.Repository) -> None:
    mission = launch(
        project,
        {
            "first": {"touches": ["a"]},
            "both": {"touches": ["a", "b"]},
            "later": {"touches": ["b"]},
            "other": {"touches": ["c"]},
        },
    )
    assert admit(mission) == ["first", "other"]
    later = next(item for item in sortie_json.of_mission(mission) if item["key"] == "later")
    assert later["waits_for"] == "Waits for both, which is ahead of it and needs b."
    end(mission, "first")
    assert admit(mission) == ["both", "other"]


def test_a_sortie_that_waits_for_a_place_is_not_overtaken_either(project: repository.Repository) -> None:
    mission = launch(
        project,
        {
            "holds": {"concurrency": {"key": "k", "limit": 1}},
            "waits": {"concurrency": {"key": "k", "limit": 1}, "touches": ["a"]},
            "later": {"touches": ["a/b"]},
        },
    )
    assert admit(mission) == ["holds"]


def test_a_more_urgent_sortie_takes_the_files_of_one_that_is_only_queued(project: repository.Repository) -> None:
    mission = launch(project, {"calm": {"touches": ["a"]}})
    assert admit(mission) == ["calm"]
    urgent = launch(project, {"urgent": {"touches": ["**"], "priority": 5}}, workspace={"branch": branch_of(mission)})
    assert admit(urgent) == ["urgent"]
    assert admit(mission) == []
    calm = next(iter(sortie_json.of_mission(mission)))
    assert calm["waits_for"] == "Waits for a sortie of another mission, which has reserved **."


def branch_of(mission: Mission) -> str:
    return str(mission.workspace.branch)


def test_reservations_of_different_branches_are_independent(project: repository.Repository) -> None:
    first, second = (launch(project, {"edit": {"touches": ["a"]}}) for _ in range(2))
    assert admit(first) == ["edit"]
    assert admit(second) == ["edit"]


def test_a_released_reservation_no_longer_counts(project: repository.Repository) -> None:
    mission = launch(project, {"a": {"touches": ["x"]}, "b": {"touches": ["x"]}})
    assert admit(mission) == ["a"]
    reserving.release(reservation=Reservation.objects.get(sortie__key="b").id)
    assert admit(mission) == ["a", "b"]


def test_more_than_one_page_of_blocked_sorties_does_not_block_the_others(project: repository.Repository) -> None:
    blocked = {f"b{number}": {"touches": ["x"]} for number in range(admission.PAGE + 10)}
    mission = launch(project, {"first": {"touches": ["x"]}, **blocked, "last": {"touches": ["y"]}})
    assert admit(mission) == ["first"]
    assert admit(mission) == ["first", "last"]


patterns = st.sampled_from(["a", "a/*", "a/b", "*/b", "**", "a/b?", "a/[bc]*", "b", "b/**/c", "*.py", "a/x.py"])


@given(st.lists(st.tuples(patterns, st.booleans(), st.integers(0, 3)), max_size=14), st.integers(0, 2**16))
@settings(max_examples=150, deadline=None)
def test_no_file_has_two_exclusive_holders_and_no_sortie_waits_without_a_reason(
    rows: list[tuple[str, bool, int]], seed: int
) -> None:
    requests: dict[Any, list[tuple[tuple[str, str], ReservedPattern]]] = {}
    mission, contenders = ids.new(), []
    for turn, (pattern, shared, priority) in enumerate(rows):
        sortie = ids.new()
        requests[sortie] = [(("r", "b"), ReservedPattern(sortie, mission, str(turn), globs.parse(pattern), shared))]
        contenders.append(
            admission.Contender(sortie, "t", mission, None, False, None, None, None, True, priority, turn)
        )
    contenders.sort(key=lambda contender: contender.order)
    running = [pairs[0] for pairs in random.Random(seed).sample(list(requests.values()), len(rows) // 4)]
    running = [pair for number, pair in enumerate(running) if not overlaps(pair[1], [r for _, r in running[:number]])]
    busy = {reservation.sortie for _, reservation in running}
    snapshot = file_contest.ReservationSnapshot(requests=requests, in_force=running)
    blocked: dict[Any, file_contest.BlockingReservation] = {}
    chosen = admission.choose(
        [contender for contender in contenders if contender.sortie not in busy],
        contest=snapshot.contest(),
        blocked=blocked,
    )
    holders = [requests[sortie][0][1] for sortie in (*busy, *chosen)]
    assert not any(overlaps(holder, holders[:number]) for number, holder in enumerate(holders))
    assert set(blocked) | set(chosen) | busy == set(requests)
    for sortie, blocker in blocked.items():
        assert globs.overlap(requests[sortie][0][1].pattern, blocker.reservation.pattern)


def overlaps(reservation: ReservedPattern, others: Sequence[ReservedPattern]) -> bool:
    index = ReservationIndex()
    for other in others:
        index.add(other)
    return index.find_conflict(reservation) is not None


@given(st.lists(st.tuples(patterns, st.booleans()), max_size=12), patterns, st.booleans())
@settings(max_examples=300, deadline=None)
def test_the_index_finds_an_obstacle_exactly_if_a_full_comparison_does(
    rows: list[tuple[str, bool]], pattern: str, shared: bool
) -> None:
    mission, index = ids.new(), ReservationIndex()
    others = [ReservedPattern(ids.new(), mission, "", globs.parse(text), is_shared) for text, is_shared in rows]
    for other in others:
        index.add(other)
    reservation = ReservedPattern(ids.new(), mission, "", globs.parse(pattern), shared)
    expected = any(
        globs.overlap(other.pattern, reservation.pattern) and not (other.shared and shared) for other in others
    )
    assert (index.find_conflict(reservation) is not None) == expected


def test_a_launch_records_the_conflicts_that_it_predicts(project: repository.Repository) -> None:
    mission = launch(
        project, {"a": {"touches": ["x"]}, "b": {"touches": ["x/**"]}, "c": {"touches": ["x"], "needs": ["b"]}}
    )
    rows = Conflict.objects.filter(sortie__mission=mission).select_related("sortie").order_by("id")
    assert [(row.sortie.key, row.kind, row.outcome, row.others, row.files) for row in rows] == [
        ("b", "predicted", "ordered", ["a"], ["x/**"]),
        ("c", "predicted", "ordered", ["a"], ["x"]),
    ]
