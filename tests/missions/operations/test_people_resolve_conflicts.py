"""A person resolves a conflict: by another attempt, by a version of their own, or by dropping the change."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet import errors
from fleet.audit.models import Entry
from fleet.events.models import Event
from missions.models import Attempt, Change, Conflict, Mission, Sortie
from missions.operations.workspaces import resolving
from missions.workspaces import conflicts
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)


def late(mission: Mission) -> Sortie:
    return Sortie.objects.get(mission=mission, key="late")


def attempts(mission: Mission) -> list[str]:
    return list(Attempt.objects.filter(sortie=late(mission)).order_by("number").values_list("state", flat=True))


def resolved_version(project: Repository, mission: Mission, *, text: str = "one\nby a person\nthree\n") -> str:
    """A branch of the user on top of what has landed, with the conflict resolved; returns its name."""
    branch = repository.branch(mission)
    project.git("fetch", "--quiet", str(branch.mirror), f"{branch.name}:mine")
    project.git("switch", "--quiet", "mine")
    project.commit({"app.py": text}, "Resolve")
    project.git("switch", "--quiet", "main")
    return "mine"


def test_another_attempt_resolves_a_conflict(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    row = resolving.retry(sortie=late(mission).id, can_execute=True)
    assert (row.state, row.waits_on, row.waits_for) == ("ready", "", "")
    assert fleet.run_mission(mission) == "succeeded"
    assert repository.branch(mission).read("app.py") == "one\nboth\nthree\n"
    assert attempts(mission) == ["committed", "succeeded"]
    assert late(mission).tries == 0
    conflict = Conflict.objects.get(sortie=late(mission))
    assert (conflict.outcome, conflict.by, conflict.closed_at is not None) == ("rework", "system", True)


def test_a_users_own_version_lands(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    revision = resolved_version(project, mission)
    resolving.replace(sortie=late(mission).id, revision=revision, by=None, can_execute=True)
    assert fleet.run_mission(mission) == "succeeded"
    branch = repository.branch(mission)
    assert branch.read("app.py") == "one\nby a person\nthree\n"
    assert branch.subjects() == ["early: A test", "late: A test", "after: A test"]
    change = Change.objects.get(sortie=late(mission))
    assert (change.state, change.files, change.lines_added) == ("landed", ["app.py"], 1)
    assert Conflict.objects.get(sortie=late(mission)).outcome == "resolved"


def test_a_users_own_version_is_verified(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    Mission.objects.get(id=mission.id).workspace.__class__.objects.filter(mission=mission).update(
        verify="! grep -q person app.py"
    )
    revision = resolved_version(project, mission)
    resolving.replace(sortie=late(mission).id, revision=revision, by=None, can_execute=True)
    assert fleet.run_mission(mission) == "failed"
    assert repository.branch(mission).read("app.py") == "one\nearly\nthree\n"


def test_a_dropped_change_cancels_the_sortie_and_skips_its_dependents(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    row = resolving.drop(sortie=late(mission).id)
    assert (row.state, row.waits_for) == ("cancelled", "its change was dropped")
    assert fleet.states(mission.id)["after"] == "skipped"
    assert fleet.state(mission.id) == "failed"
    assert Change.objects.get(sortie=row).state == "kept"
    assert Conflict.objects.get(sortie=row).outcome == "dropped"
    assert conflicts.newest(row.id) is not None


def test_a_decision_is_audited_and_has_an_event(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    row = late(mission)
    resolving.retry(sortie=row.id, can_execute=True)
    facts = {"decision": "retry", "outcome": "rework"}
    assert Entry.objects.get(kind="sortie.resolve", subject=row.ref).after == facts
    assert Event.objects.get(kind="sortie.resolved", subject=row.id).data == facts


def test_a_version_that_conflicts_too_is_refused_and_nothing_changes(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    project.git("switch", "--quiet", "--create", "mine")
    project.commit({"app.py": "one\nby a person\nthree\n"})
    project.git("switch", "--quiet", "main")
    with pytest.raises(errors.Conflict, match=r"conflicts with fleet/msn_\w+ too, in app\.py"):
        resolving.replace(sortie=late(mission).id, revision="mine", by=None, can_execute=True)
    assert Change.objects.get(sortie=late(mission)).state == "conflicted"
    assert late(mission).waits_on == "person"


@pytest.mark.parametrize("revision", ["none", "--upload-pack=touch x", "fleet/nothing"])
def test_a_version_that_does_not_exist_is_refused(project: Repository, revision: str) -> None:
    mission = conflicting.waiting_for_a_person(project)
    with pytest.raises(errors.Invalid, match="is not a branch, tag or commit"):
        resolving.replace(sortie=late(mission).id, revision=revision, by=None, can_execute=True)


def test_a_sortie_without_a_conflict_has_nothing_to_resolve(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    early = Sortie.objects.get(mission=mission, key="early")
    decisions: list[Callable[[], object]] = [
        lambda: resolving.retry(sortie=early.id, can_execute=True),
        lambda: resolving.replace(sortie=early.id, revision="main", by=None, can_execute=True),
        lambda: resolving.drop(sortie=early.id),
    ]
    for resolve in decisions:
        with pytest.raises(errors.Conflict, match="early has no conflict that waits for a person"):
            resolve()


def test_only_the_first_of_two_decisions_takes_effect(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    resolving.drop(sortie=late(mission).id)
    with pytest.raises(errors.Conflict, match="It was cancelled"):
        resolving.retry(sortie=late(mission).id, can_execute=True)


def test_another_attempt_needs_the_permission_to_run_code(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    decisions: list[Callable[[], object]] = [
        lambda: resolving.retry(sortie=late(mission).id, can_execute=False),
        lambda: resolving.replace(
            sortie=late(mission).id, revision=resolved_version(project, mission), by=None, can_execute=False
        ),
    ]
    for resolve in decisions:
        with pytest.raises(errors.Forbidden):
            resolve()
    assert late(mission).waits_on == "person"
