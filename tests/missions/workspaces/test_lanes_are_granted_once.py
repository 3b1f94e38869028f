"""A lane that was granted to a waiting sortie goes to no other, not even to one that is waiting for the lock."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from fleet import ids
from missions.models import Lane, Mission, Sortie
from missions.workspaces import branches, lanes
from missions.workspaces.repositories import mirrors
from tests.support import fleet, repository
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mission(tmp_path: Path) -> Mission:
    project = repository.create(tmp_path / "project", {"README.md": "A project\n"})
    mission = fleet.launch({"a": {}, "b": {}, "c": {}}, workspace={"repository": str(project.path)})
    workspace = mission.workspace
    store = mirrors.ensure(workspace.repository, commit=workspace.base_commit)
    mirrors.tip(store, workspace.branch, start=workspace.base_commit)
    Lane.objects.create(repository=workspace.repository, branch=workspace.branch)
    return mission


def waiting(mission: Mission, key: str) -> Sortie:
    sortie = Sortie.objects.get(mission=mission, key=key)
    Sortie.objects.filter(id=sortie.id).update(state="waiting", waits_on="merge", attempt=1)
    return sortie


def in_thread(work: Any) -> tuple[threading.Thread, list[Any]]:
    """Run in a thread with its own connection, and wait until it is waiting for a lock in Postgres."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    until(_a_session_waits_for_a_lock, within_s=10)
    return thread, results


def _a_session_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database())"
        )
        return bool(cursor.fetchone()[0])


def test_an_attempt_that_waited_for_the_lock_does_not_take_a_lane_that_was_just_given(mission: Mission) -> None:
    waiting(mission, "a")
    b = Sortie.objects.get(mission=mission, key="b")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE missions_sortie SET state = 'running', attempt = 1, lease_until = clock_timestamp() + interval '1 hour'"
            " WHERE id = %s",
            [b.id],
        )
    workspace = mission.workspace

    def take() -> str | None:
        return lanes.take(
            repository=workspace.repository,
            branch=workspace.branch,
            mirror=mirrors.of(workspace.repository),
            sortie=b.id,
            attempt=1,
        )

    with transaction.atomic(), connection.cursor() as cursor:
        assert len(lanes.grant(cursor.cursor, after=None)) == 1
        thread, results = in_thread(take)
    thread.join()
    assert results == [None]


def test_two_concurrent_handovers_give_the_lane_to_one_sortie(mission: Mission) -> None:
    a, _, _ = (waiting(mission, key) for key in "abc")

    def grant() -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            return len(lanes.grant(cursor.cursor, after=None))

    with transaction.atomic(), connection.cursor() as cursor:
        assert len(lanes.grant(cursor.cursor, after=None)) == 1
        thread, results = in_thread(grant)
    thread.join()
    assert results == [0]
    assert Lane.objects.get().sortie_id == a.id
    assert ids.encode(ids.SORTIE, a.id) in lanes.holder(
        repository=mission.workspace.repository, branch=mission.workspace.branch
    )


def test_an_attempt_that_has_lost_the_lane_does_not_move_the_branch_even_if_no_one_else_has(
    project: repository.Repository,
) -> None:
    base = project.git("rev-parse", "HEAD")
    change = project.commit({"a.txt": "b\n"})
    store = mirrors.ensure(str(project.path), commit=change)
    assert mirrors.tip(store, "fleet/x", start=base) == base
    sortie = ids.new()
    old, new = (branches.lane_content(store, sortie=sortie, attempt=attempt) for attempt in (1, 2))
    branches.write_lane(store, "fleet/x", content=old, expected="")
    branches.write_lane(store, "fleet/x", content=new, expected=old)
    with pytest.raises(branches.LaneLost):
        branches.move(store, branch="fleet/x", lane=old, tip=base, to=change)
    assert mirrors.tip(store, "fleet/x", start=base) == base
    branches.move(store, branch="fleet/x", lane=new, tip=base, to=change)
