"""A mission with a workspace moves to another fleet with its commits, and continues on the repository named there."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from checkpoints import operations
from checkpoints.models import Checkpoint
from fleet import errors
from missions import operations as missions
from missions.engine.process.runtime import Engine
from missions.models import Change, Conflict, Mission, Reservation, SavedWork, Sortie, Workspace
from missions.operations.workspaces import diffs, discarding, merging, resolving
from missions.workspaces import copies
from missions.workspaces.repositories import git, mirrors
from tests.support import fleet, repository
from tests.support.checkpoints import digest, saved_digest
from tests.support.processes import killing
from tests.support.repository import Repository
from tests.support.waiting import until
from tests.support.work import archives, conflicting
from tests.support.work.restoring import TWO_SORTIES, finish, launch, refs

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture
def elsewhere(project: Repository, tmp_path: Path) -> Repository:
    """A clone of the repository, for which this fleet has another mirror."""
    project.git("clone", "--quiet", str(project.path), str(tmp_path / "elsewhere"))
    return Repository(tmp_path / "elsewhere")


def export(mission: Mission) -> bytes:
    return archives.export(operations.capture(missions=[mission.id]))


def import_there(data: bytes, there: Repository, **options: Any) -> operations.ImportResult:
    return archives.import_bytes(data, repository=str(there.path), folder=str(there.path), **options)


# ── Round trips ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mission_that_ended_arrives_with_its_branch(
    project: Repository, elsewhere: Repository, engine: Engine
) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    branch = repository.branch(mission)
    result = import_there(export(mission), elsewhere)
    own = repository.branch(result.mission)
    assert (own.tip, own.name) == (branch.tip, f"fleet/{result.mission.ref}")
    assert own.mirror != branch.mirror
    assert own.subjects() == ["first: A test", "second: A test"]
    row = Workspace.objects.get(mission=result.mission)
    assert (row.repository, row.base, row.restore_to) == (str(elsewhere.path), "main", "")
    assert result.mission.state == "succeeded"
    assert digest(result.mission) == saved_digest(result.checkpoint)
    work = diffs.of_mission(result.mission)
    assert [file.path for file in work.landed.files] == ["one.txt", "two.txt"]
    assert b"+2" in diffs.of_sortie(result.mission.sorties.get(key="second")).diff.patch
    assert merging.merge(mission=result.mission.id).commit == own.tip
    assert elsewhere.git("show", f"{own.name}:two.txt") == "2"


def test_a_mission_on_a_sha256_repository_arrives_with_its_branch(tmp_path: Path, engine: Engine) -> None:
    project, elsewhere = Repository(tmp_path / "project"), Repository(tmp_path / "elsewhere")
    subprocess.run(["git", "init", "--quiet", "--object-format=sha256", str(project.path)], check=True)
    project.commit({"app.py": "one\n"})
    project.git("clone", "--quiet", str(project.path), str(elsewhere.path))
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    result = import_there(export(mission), elsewhere)
    own = repository.branch(result.mission)
    assert (own.tip, len(own.tip)) == (repository.branch(mission).tip, 64)
    assert own.subjects() == ["first: A test", "second: A test"]
    assert digest(result.mission) == saved_digest(result.checkpoint)


def test_the_digest_stays_the_same_with_the_same_repository(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    Change.objects.update(commit="", base="")
    for change in Change.objects.all():
        Change.objects.filter(id=change.id).update(commit=change.landed, base=change.onto)
    checkpoint = operations.capture(missions=[mission.id])
    result = import_there(archives.export(checkpoint), project)
    assert digest(result.mission) == saved_digest(checkpoint) == saved_digest(result.checkpoint)


def test_a_mission_without_commits_needs_only_its_base(project: Repository, elsewhere: Repository) -> None:
    data = export(launch(project))
    assert not [name for name in archives.member_names(data) if name.startswith("commits/")]
    result = import_there(data, elsewhere)
    assert result.mission.state == "planned"
    assert finish(result.mission) == "succeeded"
    assert repository.branch(result.mission).subjects() == ["first: A test", "second: A test"]


def test_a_mission_continues_where_it_was(project: Repository, elsewhere: Repository, engine: Engine) -> None:
    third = {"agent": "frontend", "run": "cat one.txt two.txt > three.txt", "needs": ["second"]}
    mission = launch(project, {**TWO_SORTIES, "third": third})
    until(lambda: bool(engine.run_slot()) or fleet.states(mission.id)["second"] == "succeeded")
    data = export(mission)
    missions.cancel(mission=mission.id, reason="It moves.")
    result = import_there(data, elsewhere).mission
    assert fleet.states(result.id) == {"first": "succeeded", "second": "succeeded", "third": "ready"}
    missions.resume(mission=result.id, can_execute=True)
    other = fleet.engine("frontend")
    try:
        assert fleet.run_to_end(other, result) == "succeeded"
    finally:
        other.stop(within_s=5)
    branch = repository.branch(result)
    assert branch.subjects() == ["first: A test", "second: A test", "third: A test"]
    assert branch.read("three.txt") == "1\n2\n"


def test_a_fork_and_a_second_export_of_an_import_work(
    project: Repository, elsewhere: Repository, engine: Engine
) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    first = import_there(export(mission), elsewhere)
    second = import_there(archives.export(first.checkpoint), project)
    assert repository.branch(second.mission).tip == repository.branch(mission).tip
    forked = operations.fork(checkpoint=second.checkpoint, sorties=["second"], can_execute=True).mission
    assert finish(forked) == "succeeded"


def test_equal_checkpoints_are_equal_files(project: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    data = archives.export(checkpoint)
    git.run("repack", "-q", "-a", "-d", at=repository.branch(mission).mirror)
    assert archives.export(checkpoint) == data


def test_git_can_read_the_bundle(project: Repository, elsewhere: Repository, engine: Engine, tmp_path: Path) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    (tmp_path / "exported.bundle").write_bytes(archives.OpenedExport.of(export(mission)).commits)
    elsewhere.git("bundle", "verify", "--quiet", str(tmp_path / "exported.bundle"))
    elsewhere.git("fetch", "--quiet", str(tmp_path / "exported.bundle"), "refs/fleet/commits/*:refs/heads/got/*")
    assert elsewhere.git("show", f"got/{repository.branch(mission).tip}:two.txt") == "2"


def test_the_export_says_how_large_the_commits_are(project: Repository, engine: Engine, tmp_path: Path) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    with open(tmp_path / "file", "wb") as file:
        result = operations.export(checkpoint=operations.capture(missions=[mission.id]), out=file)
    data = (tmp_path / "file").read_bytes()
    assert result.commit_bytes == len(archives.OpenedExport.of(data).commits)


def test_an_import_can_be_restored(project: Repository, elsewhere: Repository, engine: Engine) -> None:
    mission = launch(project)
    data = export(mission)
    result = import_there(data, elsewhere)
    assert finish(result.mission) == "succeeded"
    operations.restore(checkpoint=result.checkpoint, can_execute=True)
    assert repository.branch(result.mission).subjects() == []
    assert digest(result.mission) == saved_digest(result.checkpoint)


def test_uncommitted_work_travels(project: Repository, elsewhere: Repository) -> None:
    work = (
        "if test -f draft.txt; then mv draft.txt done.txt; else echo half > draft.txt; touch ready.log; sleep 600; fi"
    )
    mission = launch(project, {"slow": {"run": work}})
    copy = copies.of(sortie=Sortie.objects.get(mission=mission).id, mirror=mirrors.of(str(project.path)))
    engine = fleet.engine()
    thread = threading.Thread(target=engine.run_slot, daemon=True)
    thread.start()
    try:
        until(lambda: (copy.path / "ready.log").exists())
        data = export(mission)
    finally:
        engine.stop(within_s=5)
        thread.join(10)
    missions.pause(mission=mission.id)
    result = import_there(data, elsewhere).mission
    saved = SavedWork.objects.get(sortie__mission=result)
    ref = f"refs/fleet/attempts/{result.sorties.get().ref}/saved"
    assert refs(result, ref) == {ref: saved.commit}
    assert finish(result) == "succeeded"
    assert repository.branch(result).read("done.txt") == "half\n"


def test_a_conflict_that_waits_for_a_person_still_waits(project: Repository, elsewhere: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    data = export(mission)
    result = import_there(data, elsewhere).mission
    assert list(Change.objects.filter(sortie__mission=result, sortie__key="late").values_list("state", flat=True)) == [
        "conflicted"
    ]
    conflict = Conflict.objects.get(sortie__mission=result)
    assert (conflict.kind, conflict.files, conflict.outcome, conflict.closed_at) == (
        "merge",
        ["app.py"],
        "manual",
        None,
    )
    missions.resume(mission=result.id, can_execute=True)
    conflicting.wait_for_a_person(result)
    late = result.sorties.get(key="late")
    assert b"late" in diffs.of_sortie(late).diff.patch
    resolving.retry(sortie=late.id, can_execute=True)
    assert fleet.run_mission(result) == "succeeded"
    assert repository.branch(result).read("app.py") == "one\nboth\nthree\n"


def test_reservations_of_the_plan_travel(project: Repository, elsewhere: Repository) -> None:
    mission = launch(project, {"one": {"run": "true", "touches": ["src/**"]}})
    result = import_there(export(mission), elsewhere).mission
    row = Reservation.objects.get(sortie__mission=result)
    assert (row.pattern, row.shared, row.repository) == ("src/**", False, str(elsewhere.path))


def test_a_change_that_would_add_sorties_runs_again_from_its_files(
    project: Repository, elsewhere: Repository, engine: Engine
) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    second = mission.sorties.get(key="second")
    spec = {"key": "extra", "name": "extra", "agent_type": "backend", "driver": "command", "run": "true"}
    landed = Change.objects.get(sortie=second)
    Change.objects.filter(sortie=second).update(
        state="committed", added_sorties=[spec], base=landed.onto, commit=landed.landed
    )
    Sortie.objects.filter(id=second.id).update(state="ready", finished_at=None)
    Mission.objects.filter(id=mission.id).update(state="running", finished_at=None)
    result = import_there(export(mission), elsewhere).mission
    assert not Change.objects.filter(sortie__mission=result, sortie__key="second").exists()
    assert SavedWork.objects.get(sortie__mission=result).commit == landed.landed


def test_discarded_work_stays_discarded(project: Repository, elsewhere: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    before = operations.capture(missions=[mission.id])
    discarding.discard(mission=mission.id)
    result = import_there(export(mission), elsewhere).mission
    assert repository.branch(result).subjects() == []
    with pytest.raises(errors.Conflict, match="discarded"):
        discarding.require_not_discarded(result.id)
    undiscarded = import_there(archives.export(before), elsewhere).mission
    assert repository.branch(undiscarded).subjects() == ["first: A test", "second: A test"]


def test_an_export_says_that_commits_are_gone(project: Repository, engine: Engine, tmp_path: Path) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    mirror = repository.branch(mission).mirror
    mirror.rename(mirror.with_suffix(".gone"))
    with pytest.raises(CommandError, match="lacks 2 of its commits"):
        call_command("fleet_checkpoint", "export", checkpoint.ref, str(tmp_path / "file"))
    assert not (tmp_path / "file").exists()


def test_a_shared_branch_travels_with_the_commits_of_the_others(
    project: Repository, elsewhere: Repository, engine: Engine
) -> None:
    plan: dict[str, Any] = {"workspace": {"repository": ".", "branch": "shared"}, "folder": str(project.path)}
    fleet.run_to_end(engine, fleet.launch(TWO_SORTIES, **plan))
    project.commit({"later.txt": "later\n"})
    elsewhere.git("pull", "--quiet")
    mission = fleet.launch({"third": {"run": "echo 3 > three.txt"}}, **plan)
    fleet.run_to_end(engine, mission)
    result = import_there(export(mission), elsewhere).mission
    branch = repository.branch(result)
    assert branch.files() == [".gitignore", "app.py", "one.txt", "three.txt", "two.txt"]


def test_a_branch_that_was_moved_behind_its_base_can_be_moved(project: Repository, elsewhere: Repository) -> None:
    older = project.git("rev-parse", "HEAD")
    project.commit({"later.txt": "later\n"})
    elsewhere.git("pull", "--quiet")
    mission = launch(project)
    row = Workspace.objects.get(mission=mission)
    mirrors.ensure(row.repository, commit=row.base_commit)
    Workspace.objects.filter(mission=mission).update(restore_to=older)
    result = import_there(export(mission), elsewhere).mission
    assert repository.branch(result).tip == older


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_commands_move_a_mission(
    project: Repository, elsewhere: Repository, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    call_command("fleet_checkpoint", "export", checkpoint.ref, str(tmp_path / "file"), "--json")
    assert json.loads(capsys.readouterr().out)["commit_bytes"] > 0
    call_command("fleet_checkpoint", "import", str(tmp_path / "file"), "--repository", str(elsewhere.path), "--json")
    (ref,) = [row.ref for row in Mission.objects.exclude(id=mission.id)]
    assert json.loads(capsys.readouterr().out)["mission"]["id"] == ref


# ── A killed import ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(300)
def test_a_killed_import_leaves_nothing(project: Repository, elsewhere: Repository, engine: Engine) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    data = export(mission)
    checkpoints = set(Checkpoint.objects.values_list("id", flat=True))
    mirror = mirrors.of(str(elsewhere.path))
    kills = 0
    for _ in killing.at_each_step(lambda: import_there(data, elsewhere), folder=settings.FLEET_CHECKPOINTS):
        kills += 1
        created = Mission.objects.exclude(id=mission.id).first()
        if created is not None:  # it was committed, and only the branch is missing
            assert Workspace.objects.get(mission=created).restore_to in ("", repository.branch(mission).tip)
            break
        assert set(Checkpoint.objects.values_list("id", flat=True)) == checkpoints
        if mirror.exists():
            names = git.line("for-each-ref", "--format=%(refname)", at=mirror).splitlines()
            assert [
                name for name in names if not name.startswith(("refs/fleet/bases/", "refs/fleet/checkpoints/"))
            ] == []
    assert kills > 10
    for folder in settings.FLEET_HOME.commits.glob(f"{copies.READER}*"):
        os.utime(folder, (0, 0))  # an hour later
    copies.sweep()
    assert not list(settings.FLEET_HOME.commits.glob(f"{copies.READER}*"))
    operations.prune(now=timezone.now(), dry_run=False)
    assert operations.verify(checkpoints=Checkpoint.objects.all()) == []


def test_a_failed_import_leaves_no_ref(
    project: Repository, elsewhere: Repository, engine: Engine, tmp_path: Path
) -> None:
    mission = launch(project)
    fleet.run_to_end(engine, mission)
    export_ = archives.OpenedExport.of(export(mission))
    # Postgres would write the number differently, which is found only when the rows are compared.
    export_.state["second"] = export_.state["second"].replace('"tries":', '"tries": ')
    folders = set(settings.FLEET_HOME.commits.glob(f"{copies.READER}*"))
    with pytest.raises(errors.Invalid, match="the form that a fleet writes"):
        import_there(export_.reseal(), elsewhere)
    mirror = mirrors.of(str(elsewhere.path))
    names = git.line("for-each-ref", "--format=%(refname)", at=mirror).splitlines()
    assert [name for name in names if not name.startswith("refs/fleet/bases/")] == []
    assert set(settings.FLEET_HOME.commits.glob(f"{copies.READER}*")) == folders


def test_the_importers_own_rows_are_used(project: Repository, elsewhere: Repository, settings: Any) -> None:
    settings.FLEET_REPOSITORY_ROOTS = (str(elsewhere.path.parent),)
    ann = User.objects.create_user("ann")
    data = export(launch(project))
    result = archives.import_bytes(data, by=ann, repository=str(elsewhere.path))
    assert (result.mission.created_by, result.mission.can_execute) == (ann, True)
