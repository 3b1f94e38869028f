"""Discarding the work of a mission, and what retention keeps."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from checkpoints import operations as checkpoints
from checkpoints.models import Checkpoint
from fleet import errors, ids
from fleet.audit.models import Entry
from missions import operations
from missions.models import Attempt, Change, Lane, Mission, Sortie, Workspace
from missions.operations import cleaning
from missions.operations.workspaces import discarding, merging, tidying, unmerged
from missions.workspaces import copies
from missions.workspaces.repositories import git, mirrors
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)


def mirror(project: Repository) -> Path:
    return mirrors.of(str(project.path))


def refs(project: Repository) -> list[str]:
    names = git.line("for-each-ref", "--format=%(refname)", at=mirror(project)).splitlines()
    return [name for name in names if not name.startswith(("refs/fleet/bases/", "refs/fleet/checkpoints/"))]


def copy_of(mission: Mission, key: str = "edit") -> copies.Copy:
    sortie = Sortie.objects.get(mission=mission, key=key)
    return copies.of(sortie=sortie.id, mirror=Path())


# ── Unmerged work ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_commits_that_no_branch_of_the_user_contains_are_unmerged(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    found = unmerged.of_mission(mission.id)
    assert [row["sortie"] for row in found.commits] == ["edit"]
    merging.merge(mission=mission.id, into="next")
    assert not unmerged.of_mission(mission.id)
    project.git("branch", "--delete", "--force", "next")
    assert unmerged.of_mission(mission.id)


def test_commits_that_were_merged_before_others_landed_are_not_listed(project: Repository) -> None:
    first = conflicting.landed_mission(project, branch="shared", run="echo 1 > first.txt")
    merging.merge(mission=first.id, into="next")
    second = conflicting.landed_mission(project, branch="shared", run="echo 2 > second.txt")
    landed = Change.objects.get(sortie__mission=second).landed
    for mission in (first, second):
        assert [row["commit"] for row in unmerged.of_mission(mission.id).commits] == [landed]


def test_a_change_that_waits_for_a_person_is_unmerged(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    merging.merge(mission=mission.id)
    found = unmerged.of_mission(mission.id)
    assert (found.commits, [change.sortie.key for change in found.changes]) == ((), ["late"])


def test_a_repository_that_is_gone_counts_as_unmerged(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    merging.merge(mission=mission.id)
    project.path.rename(project.path.with_name("elsewhere"))
    assert unmerged.of_mission(mission.id)


# ── Discard ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_branch_commits_and_copies_are_removed(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    assert len(refs(project)) == 3  # the branch, its lane, and the commit of the attempt
    discarded_work = discarding.discard(mission=mission.id)
    assert len(discarded_work.commits) == 1
    assert refs(project) == []
    assert not copy_of(mission).path.exists()
    assert not copy_of(mission).engine.exists()
    entry = Entry.objects.get(kind="mission.discard", subject=mission.ref)
    assert entry.after == {"branch": f"fleet/{mission.ref}", "commits": 1, "changes": 0}
    discarding.discard(mission=mission.id)  # repeated, as after a crash
    assert Entry.objects.filter(kind="mission.discard", subject=mission.ref).count() == 1


def test_a_mission_that_runs_is_not_discarded(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    before = refs(project)
    with pytest.raises(errors.Conflict, match="once it has ended"):
        discarding.discard(mission=mission.id)
    assert refs(project) == before


def test_a_branch_that_another_mission_uses_stays(project: Repository) -> None:
    first = conflicting.landed_mission(project, branch="feature")
    second = conflicting.landed_mission(project, run="echo 2 > two.txt", branch="feature")
    discarding.discard(mission=first.id)
    assert repository.branch(second).files() == ["app.py", "new.txt", "two.txt"]
    discarding.discard(mission=second.id)
    assert refs(project) == []


def test_a_mission_whose_work_was_discarded_is_not_retried(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="echo new > new.txt; exit 1")
    discarding.discard(mission=mission.id)
    with pytest.raises(errors.Conflict, match="discarded"):
        operations.retry(mission=mission.id, can_execute=True)
    with pytest.raises(errors.Conflict, match="discarded"):
        operations.retry_sortie(sortie=Sortie.objects.get(mission=mission).id, can_execute=True)


# ── Retention of missions ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mission_with_unmerged_work_is_kept_and_removed_once_it_is_merged(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    assert cleaning.remove(missions=[mission.id]) == 0
    assert repository.branch(mission).read("new.txt") == "new\n"
    merging.merge(mission=mission.id)
    assert cleaning.remove(missions=[mission.id]) == 1
    assert not Mission.objects.exists()
    assert not Workspace.objects.exists()
    assert not Change.objects.exists()
    assert not Lane.objects.exists()
    assert refs(project) == []
    assert project.git("show", f"fleet/{mission.ref}:new.txt") == "new"


def test_a_mission_whose_work_was_discarded_is_removed(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    discarding.discard(mission=mission.id)
    assert cleaning.remove(missions=[mission.id]) == 1


# ── Copies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_copy_of_a_sortie_that_has_landed_is_removed_and_its_work_stays(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    assert copy_of(mission).path.exists()
    assert tidying.tidy() == 1
    assert not copy_of(mission).path.exists()
    assert not copy_of(mission).engine.exists()
    assert list(settings.FLEET_HOME.work.glob("removed-*")) == []
    assert repository.branch(mission).read("new.txt") == "new\n"


def test_the_copy_of_an_unsuccessful_sortie_stays_for_a_day(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="echo new > new.txt; exit 1")
    assert tidying.tidy() == 0
    Sortie.objects.filter(mission=mission).update(finished_at=timezone.now() - timedelta(days=2))
    assert tidying.tidy() == 1


def test_copies_of_sorties_that_have_not_ended_stay(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    assert tidying.ended_sorties() == [Sortie.objects.get(mission=mission, key="early").id]
    tidying.remove_copies(list(Sortie.objects.filter(mission=mission).values_list("id", flat=True)))
    assert copy_of(mission, "late").exists


def failed_with_uncommitted_work(project: Repository, script: str) -> tuple[Mission, Sortie]:
    """A failed sortie whose last attempt left uncommitted work in its copy, as if its agent had been killed."""
    mission = conflicting.landed_mission(project, run=f"{script}; exit 1")
    sortie = Sortie.objects.get(mission=mission)
    Change.objects.filter(sortie=sortie).delete()
    Attempt.objects.filter(sortie=sortie).update(state="lost")
    return mission, sortie


def test_work_that_was_not_committed_is_committed_before_its_copy_is_removed(project: Repository) -> None:
    _, sortie = failed_with_uncommitted_work(
        project, "echo kept > new.txt; echo ignored > x.log; echo '*.log' > .gitignore"
    )
    assert tidying.remove_copies([sortie.id]) == (1, [])
    change = Change.objects.get(sortie=sortie)
    assert (change.state, change.files) == ("kept", [".gitignore", "new.txt"])
    ref = f"refs/fleet/attempts/{sortie.ref}/1"
    assert git.run("show", f"{ref}:new.txt", at=mirror(project)) == b"kept\n"


def test_a_copy_whose_work_cannot_be_committed_is_kept_and_named(project: Repository) -> None:
    _, sortie = failed_with_uncommitted_work(
        project, "echo new > new.txt; git init -q nested; touch nested/x; git -C nested add x"
    )
    removed, kept_paths = tidying.remove_copies([sortie.id])
    assert removed == 0
    assert [item.path.name for item in kept_paths] == [sortie.ref]
    assert "repository of its own" in kept_paths[0].reason
    assert (settings.FLEET_HOME.work / sortie.ref / "new.txt").read_text() == "new\n"


def test_an_interrupted_removal_is_completed(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    aside = copies.set_aside(copy_of(mission))
    assert len(aside) == 2
    old_reader = settings.FLEET_HOME.commits / "reader-old"
    old_reader.mkdir()
    os.utime(old_reader, (time.time() - 7_200,) * 2)
    new_reader = settings.FLEET_HOME.commits / "reader-new"
    new_reader.mkdir()
    tidying.tidy()
    assert not any(folder.exists() for folder in (*aside, old_reader))
    assert new_reader.exists()
    new_reader.rmdir()


def test_copies_that_the_database_does_not_know_are_kept(project: Repository) -> None:
    unknown = settings.FLEET_HOME.work / ids.encode(ids.SORTIE, ids.new())
    unknown.mkdir()
    tidying.tidy()
    assert unknown in [copy.path for copy in tidying.unknown_copies()]
    unknown.rmdir()


# ── Mirrors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mirror_is_removed_once_no_mission_uses_it(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    assert mirror(project) not in tidying.unused_mirrors().removable
    merging.merge(mission=mission.id)
    cleaning.remove(missions=[mission.id])
    assert mirror(project) not in tidying.unused_mirrors().removable, "the checkpoint before the cleanup needs it"
    for checkpoint in Checkpoint.objects.all():
        checkpoints.delete(checkpoint=checkpoint)
    assert mirror(project) in tidying.unused_mirrors().removable
    tidying.remove_mirrors()
    assert not mirror(project).exists()


def test_a_mirror_with_work_of_an_unknown_mission_is_kept(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    Workspace.objects.filter(mission=mission).delete()
    removable, kept_paths = tidying.unused_mirrors()
    assert mirror(project) not in removable
    assert mirror(project) in [item.path for item in kept_paths]
    tidying.remove_mirrors()
    assert mirror(project).exists()


def test_a_new_mission_works_after_its_mirror_was_removed(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    discarding.discard(mission=mission.id)
    cleaning.remove(missions=[mission.id])
    tidying.remove_mirrors()
    new_mission = conflicting.landed_mission(project)
    assert fleet.state(new_mission.id) == "succeeded"
