"""fleet_mission diff, conflicts, resolve, merge and discard: their text, their JSON and their exit codes."""

from __future__ import annotations

import contextlib
import io
import shlex
import subprocess

import pytest
from django.core.management import call_command

from fleet.console.progress import Board
from missions.models import Conflict, Sortie
from missions.queries import mission_json, sortie_json, workspaces
from tests.missions.management.fleet_mission import ITEM, fleet_mission
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import conflicting, landing

pytestmark = pytest.mark.django_db(transaction=True)

DIFF = {"base", "commit", "files", "patch", "truncated"}


def test_diff_prints_the_patch_of_a_mission_or_of_a_sortie(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="sed -i s/two/agent/ app.py; echo new > new.txt")
    result = fleet_mission("diff", mission.ref)
    assert result.code == 0
    assert "-two\n+agent\n" in result.out
    assert f"fleet/{mission.ref} (landed): 2 files, +2 −1" in result.err
    assert fleet_mission("diff", mission.ref, "edit").out == result.out
    assert fleet_mission("diff", mission.ref, "edit", "--stat").out.splitlines() == [
        "edit (landed): 2 files, +2 −1",
        "           +1 −1  app.py",
        "           +1 −0  new.txt",
    ]


def test_diff_has_the_documented_shape(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    document = fleet_mission("diff", mission.ref, "--json").json
    assert set(document) == {"mission", "branch", "unmerged"} | DIFF
    assert document["files"] == [{"path": "app.py", "added": 1, "removed": 1}]
    (work,) = document["unmerged"]
    assert set(work) == {"sortie", "key", "attempt", "state"} | DIFF
    assert (work["key"], work["state"]) == ("late", "conflicted")
    item = fleet_mission("diff", mission.ref, "late", "--json").json
    assert item == work


def test_the_diff_of_an_existing_branch_leaves_out_what_the_base_has_got_since(project: Repository) -> None:
    conflicting.landed_mission(project, branch="shared", run="echo 1 > first.txt")
    project.commit({"moved.txt": "moved\n"})
    later = conflicting.landed_mission(project, branch="shared", run="echo 2 > second.txt")
    files = fleet_mission("diff", later.ref, "--json").json["files"]
    assert [file["path"] for file in files] == ["first.txt", "second.txt"]


def test_control_characters_of_a_patch_do_not_reach_the_terminal(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="printf 'a\\033]0;title\\007b\\n' > new.txt")
    out = fleet_mission("diff", mission.ref).out
    assert "\033" not in out
    assert "a␛]0;title␇b" in out


def test_a_raw_patch_can_be_applied(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="printf '\\377\\000' > data.bin; sed -i s/two/agent/ app.py")
    out = io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(out):
        call_command("fleet_mission", "diff", mission.ref, "--raw")
    out.flush()
    (project.path / "raw.patch").write_bytes(out.buffer.getvalue())
    project.git("apply", "raw.patch")
    assert (project.path / "data.bin").read_bytes() == b"\377\0"


def test_an_empty_diff_says_that_nothing_changed(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="true")
    assert (fleet_mission("diff", mission.ref).out, fleet_mission("diff", mission.ref).err) == (
        "",
        "Nothing has been changed.\n",
    )
    assert fleet_mission("diff", mission.ref, "edit").err == "edit has changed nothing.\n"


def test_commands_say_that_a_mission_has_no_workspace() -> None:
    mission = fleet.launch({"edit": {}})
    for action in ("diff", "merge", "discard"):
        result = fleet_mission(action, mission.ref)
        assert result.code == 1
        assert "has no workspace" in result.err
    assert fleet_mission("conflicts", mission.ref).err == "There have been no conflicts.\n"


def test_show_and_conflicts_name_a_command_that_resolves_it(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    result = fleet_mission("show", mission.ref)
    assert f"branch fleet/{mission.ref} for {project.path}, from main (" in result.out
    (command,) = [line.partition("Resolve it: ")[2] for line in result.out.splitlines() if "Resolve it: " in line]
    conflicts = fleet_mission("conflicts", mission.ref)
    assert "late, attempt 1: merge conflict with early in app.py; waits for a person" in conflicts.out
    assert f"Resolve it: {command}" in conflicts.out
    fetch = conflicts.out.partition("By hand: ")[2].partition(", commit")[0]
    subprocess.run(shlex.split(fetch), cwd=project.path, check=True, capture_output=True)
    assert project.git("rev-parse", "FETCH_HEAD") == repository.branch(mission).tip
    arguments = shlex.split(command)
    assert arguments[-5:] == ["fleet_mission", "resolve", mission.ref, "late", "--retry"]
    assert fleet_mission(*arguments[-4:]).code == 0  # pasted
    assert fleet.run_mission(mission) == "succeeded"
    assert "Resolve it" not in fleet_mission("show", mission.ref).out
    assert (
        "late, attempt 1: merge conflict with early in app.py; another attempt has resolved it (decided by command:"
        in fleet_mission("conflicts", mission.ref).out
    )


def test_no_command_resolves_the_conflict_of_a_cancelled_sortie(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    assert fleet_mission("cancel", mission.ref, "late").code == 0
    out = fleet_mission("conflicts", mission.ref).out
    assert "late, attempt 1: merge conflict with early in app.py; waited for a person" in out
    assert "esolve" not in out


def test_conflicts_name_the_sortie_whose_files_a_change_has_strayed_into(project: Repository) -> None:
    mission = fleet.launch({"edit": {}}, workspace={"repository": str(project.path)})
    sortie = Sortie.objects.get(mission=mission)
    Conflict.objects.create(
        sortie=sortie, attempt=1, kind="stray", outcome="ordered", others=["api"], files=["src/a.py"]
    )
    assert (
        "edit, attempt 1: changed src/a.py, which api has reserved; one waits for the other"
        in fleet_mission("conflicts", mission.ref).out
    )


def test_watch_says_that_a_sortie_waits_for_a_person(project: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    mission = conflicting.waiting_for_a_person(project)
    Board(resolve_command=workspaces.resolve_command).update(
        mission_json.summary(mission), list(sortie_json.of_mission(mission, results=False))
    )
    lines = capsys.readouterr().err.splitlines()
    (number,) = [number for number, line in enumerate(lines) if "… late waiting" in line]
    assert "Waits for a person, because its change conflicts with early in app.py" in lines[number]
    command = lines[number + 1].partition("Resolve it: ")[2]
    assert shlex.split(command)[-5:] == ["fleet_mission", "resolve", mission.ref, "late", "--retry"]


def test_conflicts_have_the_documented_shape(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    (conflict,) = fleet_mission("conflicts", mission.ref, "--json").json
    assert set(conflict) == {
        "id", "sortie", "key", "attempt", "kind", "others", "files", "onto", "text", "outcome", "by", "created_at",
        "closed_at",
    }  # fmt: skip
    assert (conflict["key"], conflict["kind"], conflict["outcome"]) == ("late", "merge", "manual")


def test_resolve_from_takes_the_branch_of_a_person(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    branch = repository.branch(mission)
    project.git("fetch", "--quiet", str(branch.mirror), f"{branch.name}:mine")
    project.git("switch", "--quiet", "mine")
    project.commit({"app.py": "one\nmine\nthree\n"})
    result = fleet_mission("resolve", mission.ref, "late", "--from", "mine", "--json")
    assert set(result.json) == ITEM
    assert result.json["change"]["state"] == "committed"
    assert fleet.run_mission(mission) == "succeeded"
    assert repository.branch(mission).read("app.py") == "one\nmine\nthree\n"


def test_resolve_drop_cancels_the_sortie(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    result = fleet_mission("resolve", mission.ref, "late", "--drop")
    assert (result.code, result.err) == (0, "The change of late is dropped, and the sortie cancelled.\n")
    assert Conflict.objects.get(sortie__key="late").outcome == "dropped"
    second_result = fleet_mission("resolve", mission.ref, "late", "--drop")
    assert second_result.code == 1
    assert "late has no conflict that waits for a person. It was cancelled." in second_result.err


def test_resolve_needs_exactly_one_decision(project: Repository) -> None:
    mission = fleet.launch({"edit": {}})
    assert fleet_mission("resolve", mission.ref, "edit").code == 2
    assert fleet_mission("resolve", mission.ref, "edit", "--retry", "--drop").code == 2


def test_merge_says_where_the_work_is_and_what_has_not_landed(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    result = fleet_mission("merge", mission.ref, "--into", "review")
    assert result.code == 0
    commit = project.git("rev-parse", "review")
    assert result.err == (
        f"Created the branch review in {project.path}, with the mission's work ({commit[:12]}).\n"
        "The work of late is not in it, because it has not landed yet.\n"
    )
    second_result = fleet_mission("merge", mission.ref, "--into", "review", "--json").json
    assert second_result == {
        "mission": mission.ref, "repository": str(project.path), "branch": "review", "before": commit, "commit": commit,
        "tip": commit, "outcome": "unchanged",
    }  # fmt: skip
    refusal = fleet_mission("merge", mission.ref, "--into", "main")
    assert refusal.code == 1
    assert f"main is checked out in {project.path}" in refusal.err


def test_the_hint_of_a_refused_merge_works(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    hint = fleet_mission("merge", mission.ref, "--into", "main").err.rpartition("merge it there: ")[2].strip()
    subprocess.run(["sh", "-ec", f"{hint} --quiet"], cwd=project.path, check=True, capture_output=True)
    assert (project.path / "new.txt").read_text() == "new\n"


@pytest.mark.parametrize("name", ["HEAD", "refs/heads/next", "a..b", "-d"])
def test_merge_refuses_a_name_that_git_would_confuse(project: Repository, name: str) -> None:
    mission = conflicting.landed_mission(project)
    before = project.git("for-each-ref")
    result = fleet_mission("merge", mission.ref, f"--into={name}")
    assert result.code == 2
    assert f"'{name}' is not a valid name for a branch." in result.err
    assert project.git("for-each-ref") == before


def test_discard_lists_changes_and_removes_them_only_with_yes(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    result = fleet_mission("discard", mission.ref)
    tip = repository.branch(mission).tip
    assert (result.code, result.out) == (0, f"  {tip[:12]}  edit: A test\n")
    assert f"fleet_mission discard {mission.ref} --yes" in result.err
    assert repository.branch(mission).tip == tip
    removed = fleet_mission("discard", mission.ref, "--yes", "--json").json
    assert (removed["mission"], removed["discarded"]) == (mission.ref, True)
    assert [commit["sortie"] for commit in removed["unmerged"]["commits"]] == ["edit"]
    assert fleet_mission("show", mission.ref).out.splitlines()[1].endswith(", discarded")
    assert fleet_mission("diff", mission.ref).code == 1
    assert fleet_mission("discard", mission.ref, "--yes").err == f"The work of {mission.ref} was already discarded.\n"


def test_discard_says_that_a_shared_branch_stays(project: Repository) -> None:
    first, second = (conflicting.landed_mission(project, branch="shared", run=f"echo 1 > {name}") for name in "ab")
    message = fleet_mission("discard", first.ref).err
    assert "Its commits and copies would be removed. shared stays, because another mission uses it." in message
    fleet_mission("discard", first.ref, "--yes")
    assert "Its branch, commits and copies would be removed." in fleet_mission("discard", second.ref).err


def test_the_outcome_names_the_commands_for_what_has_landed(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    result = fleet_mission("watch", mission.ref)
    assert f"fleet_mission diff {mission.ref}\n" in result.err
    assert f"fleet_mission merge {mission.ref}\n" in result.err
    unchanged = conflicting.landed_mission(project, run="true")
    assert "fleet_mission merge" not in fleet_mission("watch", unchanged.ref).err


def test_discard_refuses_while_the_mission_runs(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    for arguments in ((), ("--yes",)):
        result = fleet_mission("discard", mission.ref, *arguments)
        assert result.code == 1
        assert "Cancel it first" in result.err


def test_logs_name_the_attempt_that_worked_if_the_last_one_only_merged(project: Repository) -> None:
    mission = fleet.launch({"edit": {"run": "true"}}, workspace={"repository": str(project.path)})
    first = landing.begin(mission, "edit")
    first.work("echo new > new.txt")
    first.commit()
    assert "only merged" not in fleet_mission("logs", mission.ref, "edit").err
    second = landing.begin(mission, "edit")
    assert second.settle(second.merge())
    hint = fleet_mission("logs", mission.ref, "edit").err.splitlines()[-1]
    sentence, _, command = hint.partition(" Its output: ")
    assert sentence == "Attempt 2 only merged the change of attempt 1."
    assert shlex.split(command)[-4:] == [mission.ref, "edit", "--attempt", "1"]
    assert "only merged" not in fleet_mission(*shlex.split(command)[-5:]).err


def test_items_have_their_change(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    item = sortie_json.of_sortie(Sortie.objects.select_related("mission").get(mission=mission))
    assert item["change"] == {
        "attempt": 1, "state": "landed", "commit": item["change"]["commit"], "landed": repository.branch(mission).tip,
        "files": 1, "lines_added": 1, "lines_removed": 0, "no_change": "",
    }  # fmt: skip
    document = fleet_mission("show", mission.ref, "--json").json
    assert document["workspace"] == {
        "repository": str(project.path), "base": "main", "base_commit": repository.branch(mission).base,
        "branch": f"fleet/{mission.ref}", "conflicts": "rework", "discarded_at": None,
    }  # fmt: skip
    assert fleet_mission("show", fleet.launch({"edit": {}}).ref, "--json").json["workspace"] is None
