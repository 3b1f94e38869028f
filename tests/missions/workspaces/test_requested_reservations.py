"""An attempt may reserve more files while it runs: all of them or none, and never by waiting."""

from __future__ import annotations

import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from fleet import errors
from missions import attempt_tokens
from missions.control import admission
from missions.models import Attempt, Conflict, Mission, Reservation, Sortie
from missions.operations import external_agents, reserving
from missions.plan import globs
from missions.queries import reservations as listing
from missions.workspaces import reservations
from missions.workspaces.reservation_index import ReservedPattern
from tests.support import fleet, repository

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mission(tmp_path: Path, transactional_db: None) -> Mission:
    project = repository.create(tmp_path / "project", {"README.md": "A project\n"})
    return fleet.launch(
        {"a": {}, "b": {}, "c": {"touches": ["docs/**"]}, "d": {"workspace": False}},
        workspace={"repository": str(project.path)},
    )


def run(mission: Mission, key: str) -> str:
    """Make the sortie's first attempt the running one; returns its token."""
    agent = external_agents.register(agent_type="backend").id
    sortie = Sortie.objects.get(mission=mission, key=key)
    Attempt.objects.create(sortie=sortie, number=1, agent_id=agent, state="running")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE missions_sortie SET state = 'running', attempt = 1, agent_id = %s,"
            " lease_until = clock_timestamp() + interval '1 hour' WHERE id = %s",
            [agent, sortie.id],
        )
    return attempt_tokens.issue(sortie=sortie.id, attempt=1)


def request(token: str, *patterns: str, **options: Any) -> list[Reservation]:
    return reserving.request(token=token, patterns=patterns, **{"shared": False, "ttl_s": 600.0, **options})


def test_two_attempts_that_request_each_others_files_are_both_refused_immediately(mission: Mission) -> None:
    a, b = run(mission, "a"), run(mission, "b")
    request(a, "src/a/**")
    request(b, "src/b/**")
    with pytest.raises(reserving.FilesReserved, match=r"src/b/x\.py is not free: b has reserved src/b/\*\*\."):
        request(a, "src/b/x.py")
    with pytest.raises(reserving.FilesReserved, match="a has reserved"):
        request(b, "src/*/y.py")
    assert [(c.sortie.key, c.kind, c.outcome, c.others) for c in Conflict.objects.select_related("sortie")] == [
        ("a", "reservation", "refused", ["b"]),
        ("b", "reservation", "refused", ["a"]),
    ]


def test_a_request_is_granted_whole_or_not_at_all(mission: Mission) -> None:
    a, b = run(mission, "a"), run(mission, "b")
    request(a, "x")
    with pytest.raises(reserving.FilesReserved):
        request(b, "y", "x/1")
    request(a, "y")  # still free


def test_a_refusal_is_recorded_once_however_often_it_is_repeated(mission: Mission) -> None:
    a, b = run(mission, "a"), run(mission, "b")
    request(a, "x")
    for _ in range(3):
        with pytest.raises(reserving.FilesReserved):
            request(b, "x")
    assert Conflict.objects.count() == 1


def test_readers_share_and_the_plan_of_a_sortie_that_runs_counts(mission: Mission) -> None:
    a, b = run(mission, "a"), run(mission, "b")
    run(mission, "c")
    request(a, "src/**", shared=True)
    request(b, "src/*.py", shared=True)
    with pytest.raises(reserving.FilesReserved, match="c has reserved docs"):
        request(a, "docs/index.md", shared=True)


def test_requests_end_with_their_time_with_their_release_and_with_their_attempt(mission: Mission) -> None:
    a, b = run(mission, "a"), run(mission, "b")
    request(a, "x", "y")
    Reservation.objects.filter(pattern="x").update(until="2026-01-01T00:00:00Z")
    request(b, "x")
    assert reserving.release_requested(token=a, patterns=["y"]) == 1
    request(b, "y")
    Sortie.objects.filter(mission=mission, key="b").update(attempt=2)
    request(a, "x", "y")


def test_asking_again_extends_a_reservation(mission: Mission) -> None:
    a = run(mission, "a")
    (first,) = request(a, "x", ttl_s=1)
    (second,) = request(a, "x", ttl_s=3_600)
    assert [row.id for row in Reservation.objects.filter(pattern="x")] == [second.id]
    assert first.until is not None
    assert second.until is not None
    assert second.until > first.until


def test_a_blocked_sortie_continues_when_the_request_that_blocked_it_has_expired(mission: Mission) -> None:
    a = run(mission, "a")
    request(a, "docs/b.md")
    admission.admit()
    assert Sortie.objects.get(mission=mission, key="c").state == "ready"
    Reservation.objects.filter(attempt=1).update(until="2026-01-01T00:00:00Z")
    admission.admit()
    assert Sortie.objects.get(mission=mission, key="c").state == "queued"


def test_an_operator_releases_a_reservation_and_the_sortie_that_waited_continues(mission: Mission) -> None:
    a = run(mission, "a")
    (row,) = request(a, "docs/b.md")
    admission.admit()
    assert Sortie.objects.get(mission=mission, key="c").state == "ready"
    reserving.release(reservation=row.id)
    admission.admit()
    assert Sortie.objects.get(mission=mission, key="c").state == "queued"
    with pytest.raises(errors.Conflict, match=r"docs/b\.md by a has ended"):
        reserving.release(reservation=row.id)


def test_the_list_shows_which_reservations_are_in_force(mission: Mission) -> None:
    a = run(mission, "a")
    request(a, "x")
    found = listing.as_json(listing.rows(missions=Mission.objects.all()))
    assert [(row["key"], row["pattern"], row["attempt"], row["state"]) for row in found] == [
        ("c", "docs/**", None, "waiting"),
        ("a", "x", 1, "in force"),
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("../x", "leaves the repository"), ("/etc", "not relative"), (".git/hooks", "git's own files")],
)
def test_patterns_stay_within_the_repository(mission: Mission, pattern: str, message: str) -> None:
    with pytest.raises(errors.Invalid, match=message):
        request(run(mission, "a"), pattern)


def test_a_sortie_without_a_copy_has_nothing_to_reserve(mission: Mission) -> None:
    with pytest.raises(errors.Invalid, match="has no copy of a repository"):
        request(run(mission, "d"), "x")


def test_an_attempt_has_a_limited_number_of_requests(mission: Mission) -> None:
    a = run(mission, "a")
    for number in range(5):
        request(a, *[f"f{number}/{index}" for index in range(20)])
    with pytest.raises(errors.Conflict, match="at most 100 reservations"):
        request(a, "one-more")


def test_a_thousand_random_requests_of_concurrent_attempts_never_give_two_of_them_the_same_file(
    mission: Mission,
) -> None:
    """Three attempts request and release random patterns, while every state of the table is checked."""
    parts = ["a", "b", "*", "**", "a*", "[ab]", "?.py", "x.py"]
    tokens = [run(mission, key) for key in "abc"]
    branch = (mission.workspace.repository, mission.workspace.branch)
    problems: list[tuple[object, object]] = []
    done, grants = threading.Event(), [0, 0, 0]

    def request_repeatedly(number: int) -> None:
        rng = random.Random(number)
        try:
            for _ in range(334):
                pattern = "/".join(rng.choices(parts, k=rng.randint(1, 3)))
                try:
                    request(tokens[number], pattern, shared=rng.random() < 0.2)
                    grants[number] += 1
                except reserving.FilesReserved:
                    pass
                if rng.random() < 0.3:
                    reserving.release_requested(token=tokens[number])
        finally:
            connection.close()

    def check() -> int:
        """The number of checks."""
        checks = 0
        try:
            while not done.wait(0.005):
                checks += 1
                rows = [reservation for _, reservation in reservations.in_force([branch])]
                problems.extend(
                    (first, second) for first, second in itertools.combinations(rows, 2) if clash(first, second)
                )
        finally:
            connection.close()
        return checks

    with ThreadPoolExecutor() as threads:
        checker = threads.submit(check)
        workers = [threads.submit(request_repeatedly, number) for number in range(len(tokens))]
        try:
            for worker in workers:
                worker.result()  # raises what the thread has raised
        finally:
            done.set()
        assert checker.result() > 10
    assert problems == []
    assert min(grants) > 10


def clash(first: ReservedPattern, second: ReservedPattern) -> bool:
    apart = first.sortie == second.sortie or (first.shared and second.shared)
    return not apart and globs.overlap(first.pattern, second.pattern)
