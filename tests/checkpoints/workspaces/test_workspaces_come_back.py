"""A restore puts the branch of a workspace back, with its changes, and a fork gets a branch of its own."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils import timezone

from agents.models import AgentType
from checkpoints import operations
from checkpoints.queries import summaries
from checkpoints.rows import workspaces
from fleet import errors
from missions import operations as missions
from missions.engine.process.runtime import Engine
from missions.models import Change, Mission, Reservation, Sortie, Workspace
from missions.operations.workspaces import discarding
from missions.workspaces import branches, moving
from missions.workspaces.repositories import git
from tests.support import fleet, repository
from tests.support.checkpoints import digest, manifest, sortie
from tests.support.full_disk import full_disk
from tests.support.processes import killing
from tests.support.repository import Repository
from tests.support.waiting import until
from tests.support.work.restoring import TWO_SORTIES, finish, launch, refs, restore

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# ── The branch ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_branch_moves_back_and_its_old_tip_stays_under_a_ref(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    start = operations.capture(missions=[mission.id])
    assert fleet.run_to_end(engine, mission) == "succeeded"
    branch = repository.branch(mission)
    end = branch.tip
    result = restore(start)
    assert branch.tip == branch.base
    assert result.safety is not None
    assert result.replaced == f"refs/fleet/checkpoints/{result.safety.ref}/replaced/{mission.ref}"
    assert refs(mission, result.replaced) == {result.replaced: end}
    assert not Change.objects.exclude(state="kept").exists()
    assert finish(mission) == "succeeded"
    assert branch.subjects() == ["first: A test", "second: A test"]


def test_the_replaced_branch_and_its_changes_come_back_too(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    branch = repository.branch(mission)
    end, end_digest = branch.tip, digest(mission)
    safety = restore(start).safety
    assert safety is not None
    assert digest(mission) != end_digest
    restore(safety)
    assert (branch.tip, digest(mission)) == (end, end_digest)
    assert set(Change.objects.values_list("state", flat=True)) == {"landed"}


def test_a_restore_keeps_what_had_landed_by_the_time_of_the_checkpoint(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    until(lambda: bool(engine.run_slot()) or fleet.states(mission.id)["first"] == "succeeded")
    middle = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    restore(middle)
    states = fleet.states(mission.id)
    finished = [key for key, state in states.items() if state == "succeeded"]
    assert repository.branch(mission).subjects() == [f"{key}: A test" for key in finished]


def test_commits_that_landed_after_the_rows_were_read_are_not_captured(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    row, branch = Workspace.objects.get(mission=mission), repository.branch(mission)
    first = git.line("rev-parse", f"{branch.tip}~1", at=branch.mirror)
    assert moving.tip(row, landed=[first]) == first
    assert moving.tip(row, landed=[first, branch.tip]) == branch.tip
    assert moving.tip(row, landed=[]) == branch.base


def test_an_attempt_that_was_about_to_land_cannot_move_the_branch(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    branch = repository.branch(mission)
    lane = branches.read_lane(branch.mirror, branch.name)
    restore(start)
    with pytest.raises(branches.LaneLost):
        branches.move(branch.mirror, branch=branch.name, lane=lane, tip=branch.base, to=branch.base)
    assert branch.tip == branch.base


def test_a_restore_that_is_killed_is_completed_by_the_control_loop(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    branch = repository.branch(mission)
    end = branch.tip
    (entry,) = manifest(start).missions
    between = 0
    for _ in killing.at_each_step(lambda: restore(start), folder=settings.FLEET_CHECKPOINTS):
        if digest(mission) != entry.digest:
            assert branch.tip == end, "the branch moves only after the transaction"
            continue
        between += Workspace.objects.get(mission=mission).restore_to != ""
        moving.complete_all()
        assert Workspace.objects.get(mission=mission).restore_to == ""
        assert branch.tip == branch.base
        break
    assert between == 1
    assert end in refs(mission, "refs/fleet/checkpoints").values()


def test_the_next_attempt_completes_a_restore_too(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    branch = repository.branch(mission)
    Workspace.objects.filter(mission=mission).update(restore_to=branch.base, restore_ref="refs/fleet/checkpoints/x/old")
    other = launch(project, {"third": {"run": "ls > list.txt"}})
    Workspace.objects.filter(mission=other).update(restore_to=branch.tip, restore_ref="refs/fleet/checkpoints/y/old")
    fleet.run_to_end(engine, other)
    assert repository.branch(other).read("list.txt").splitlines() == ["app.py", "list.txt", "one.txt", "two.txt"]
    assert branch.tip != branch.base, "attempts of one mission do not move the branch of another"


def test_a_branch_is_moved_only_once(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    result = restore(start)
    row, branch = Workspace.objects.get(mission=mission), repository.branch(mission)
    end = refs(mission, result.replaced)[result.replaced]
    git.run("update-ref", f"refs/heads/{branch.name}", end, at=branch.mirror)  # another change has landed since
    row.restore_to, row.restore_ref = branch.base, result.replaced
    moving.complete(row)
    assert branch.tip == end


def test_discarded_work_comes_back(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    branch = repository.branch(mission)
    end, checkpoint = branch.tip, operations.capture(missions=[mission.id])
    discarding.discard(mission=mission.id)
    after_discard = operations.capture(missions=[mission.id])
    restore(checkpoint)
    assert branch.tip == end
    discarding.require_not_discarded(mission.id)
    restore(after_discard)
    with pytest.raises(errors.Conflict, match="discarded"):
        discarding.require_not_discarded(mission.id)


# ── Forks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fork_has_a_branch_of_its_own_at_the_tip_of_the_checkpoint(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    branch = repository.branch(mission)
    end = branch.tip
    exact = operations.fork(checkpoint=checkpoint, can_execute=True).mission
    assert digest(exact) == digest(mission)
    forked = operations.fork(checkpoint=checkpoint, sorties=["second"], can_execute=True).mission
    own = repository.branch(forked)
    assert (own.tip, own.name) == (end, f"fleet/{forked.ref}")
    Sortie.objects.filter(mission=forked, key="second").update(state="ready")
    brief = Sortie.objects.get(mission=forked, key="second").brief
    brief.spec["run"] = "echo other > two.txt"
    brief.save()
    assert finish(forked) == "succeeded"
    assert own.read("two.txt") == "other\n"
    assert branch.tip == end


def test_a_fork_may_replace_a_sortie_by_a_prompt_that_works_in_its_copy(project: Repository, engine: Engine) -> None:
    mission = fleet.launch(TWO_SORTIES, workspace={"repository": str(project.path)})
    checkpoint = operations.capture(missions=[mission.id])
    AgentType.objects.filter(name="backend").update(prompt_argv=["true"])
    edit = "sorties:\n  second: {agent: backend, needs: [first], prompt: Write two.txt.}\n"
    forked = operations.fork(checkpoint=checkpoint, edit=edit, can_execute=True).mission
    assert Sortie.objects.get(mission=forked, key="second").brief.spec["prompt"] == "Write two.txt."


def test_a_replaced_sortie_of_a_fork_reserves_what_its_new_version_touches(project: Repository, engine: Engine) -> None:
    plan = {
        "first": {"run": "echo 1 > one.txt", "touches": ["old/**"]},
        "second": {"run": "echo 2 > two.txt", "needs": ["first"], "touches": ["old/**"]},
    }
    mission = fleet.launch(plan, workspace={"repository": str(project.path)})
    checkpoint = operations.capture(missions=[mission.id])
    new = "{agent: backend, needs: [first], run: echo new > two.txt, touches: [two.txt], reads: [one.txt]}"
    forked = operations.fork(checkpoint=checkpoint, edit=f"sorties: {{second: {new}}}", can_execute=True).mission
    reserved = Reservation.objects.filter(sortie__mission=forked).values_list("sortie__key", "pattern", "shared")
    assert sorted(reserved) == [("first", "old/**", False), ("second", "one.txt", True), ("second", "two.txt", False)]
    assert finish(forked) == "succeeded"


# ── Refs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_keeps_the_commits_that_it_needs_as_long_as_it_exists(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    branch = repository.branch(mission)
    end = branch.tip
    checkpoint = operations.capture(missions=[mission.id])
    for ref in [*refs(mission, "refs/heads"), *refs(mission, "refs/fleet/attempts")]:
        git.run("update-ref", "-d", ref, at=branch.mirror)
    git.run("gc", "--quiet", "--prune=now", at=branch.mirror)
    Mission.objects.get(id=mission.id).delete()
    restore(checkpoint)
    assert branch.tip == end
    operations.delete(checkpoint=checkpoint)
    assert refs(mission, f"refs/fleet/checkpoints/{checkpoint.ref}") == {}


def test_a_restore_is_refused_if_the_mirror_lacks_its_commits(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    branch = repository.branch(mission)
    checkpoint = operations.capture(missions=[mission.id])
    branch.mirror.rename(branch.mirror.with_suffix(".gone"))
    with pytest.raises(errors.Conflict, match="lacks 1 commit"):
        operations.restore(checkpoint=checkpoint, can_execute=True, force=True)
    branch.mirror.with_suffix(".gone").rename(branch.mirror)


def test_a_shared_branch_moves_back_only_with_force(project: Repository, engine: Engine) -> None:
    plan: dict[str, Any] = {
        "workspace": {"repository": str(project.path), "branch": "shared"},
        "folder": str(project.path),
    }
    mission = fleet.launch(TWO_SORTIES, **plan)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    other = fleet.launch({"third": {"run": "echo 3 > three.txt"}}, **plan)
    with pytest.raises(errors.Conflict, match="shared"):
        restore(start)
    fleet.run_to_end(engine, other)
    operations.restore(checkpoint=start, can_execute=True, force=True)
    assert repository.branch(mission).subjects() == []


def test_a_branch_of_another_users_mission_does_not_move_back(project: Repository, engine: Engine) -> None:
    plan: dict[str, Any] = {
        "workspace": {"repository": str(project.path), "branch": "shared"},
        "folder": str(project.path),
    }
    mission = fleet.launch(TWO_SORTIES, **plan)
    Mission.objects.filter(id=mission.id).update(created_by=User.objects.create_user("ann"))
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    end = repository.branch(mission).tip
    fleet.launch({"third": {"run": "true"}}, **plan)
    with pytest.raises(errors.Conflict, match="another user's mission"):
        operations.restore(checkpoint=start, can_execute=True, force=True)
    assert repository.branch(mission).tip == end


def test_the_plan_of_a_restore_names_files_that_another_mission_has_reserved(project: Repository) -> None:
    plan: dict[str, Any] = {
        "workspace": {"repository": str(project.path), "branch": "shared"},
        "folder": str(project.path),
    }
    mission = fleet.launch({"mine": {"run": "true", "touches": ["src/**"]}, "free": {"run": "true"}}, **plan)
    checkpoint = operations.capture(missions=[mission.id])
    assert "reserved_files" not in [risk.kind for risk in operations.recovery_plan(checkpoint=checkpoint).risks]
    missions.pause(mission=mission.id)
    other = fleet.launch({"theirs": {"run": "true", "touches": ["src/api/*.py"]}}, **plan)
    Sortie.objects.filter(mission=other).update(state="queued")
    found = operations.recovery_plan(checkpoint=checkpoint)
    (risk,) = [risk for risk in found.risks if risk.kind == "reserved_files"]
    assert risk.message == "Files of mine are reserved by another mission."
    assert (found.branch, found.commits_removed) == ("shared", 0)


def test_a_difference_names_the_parts_of_the_workspace(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    start = operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    branch = repository.branch(mission)
    difference = operations.diff(before=start, after=None)
    assert difference.mission["workspace.tip"] == (branch.base, branch.tip)
    first = next(change for change in difference.changed if change.key == "first")
    before, after = first.parts["workspace.changes"]
    assert (before, [change["state"] for change in after]) == (None, ["landed"])


def test_the_recovery_context_names_the_files_that_have_landed(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    (content,) = summaries.detail(checkpoint)["contents"]
    assert content["context"]["files_modified"] == [
        {"path": "two.txt", "sortie": "second"},
        {"path": "one.txt", "sortie": "first"},
    ]


def test_checkpoints_of_missions_without_a_workspace_have_no_workspace_part(engine: Engine) -> None:
    mission = fleet.launch({"one": {}})
    fleet.run_to_end(engine, mission)
    state, kept_data = sortie(operations.capture(missions=[mission.id]), "one")
    assert "workspace" not in {**state, **kept_data}
    assert workspaces.read(mission.id) is None


def test_on_a_full_disk_commits_of_deleted_checkpoints_stay_until_the_next_pruning(
    project: Repository, engine: Engine
) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    first, newest = operations.capture(missions=[mission.id]), operations.capture(missions=[mission.id])
    home, kept = "refs/fleet/checkpoints", f"refs/fleet/checkpoints/{newest.ref}/{mission.ref}"
    with full_disk(), override_settings(FLEET_CHECKPOINT_COUNT=1):
        assert operations.prune(now=timezone.now(), dry_run=False).checkpoints == (first,)
    assert set(refs(mission, home)) == {f"{home}/{first.ref}/{mission.ref}", kept}
    operations.prune(now=timezone.now(), dry_run=False)
    assert set(refs(mission, home)) == {kept}
