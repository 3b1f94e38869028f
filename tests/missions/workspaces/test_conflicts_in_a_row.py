"""A sortie that conflicts repeatedly is reworked, then waits for a person. Each conflict describes the current state."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from missions.engine.changes.workspace_attempt import CONFLICT
from missions.engine.settlement import verdict
from missions.models import Change, Conflict, Mission, Sortie
from missions.plan import SortieSpec
from missions.workspaces import branches, refusals
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import landing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"app.py": "one\ntwo\nthree\n", "b.py": "one\ntwo\nthree\n"})


def launch(project: Repository, **workspace: object) -> Mission:
    keys = ("late", "early0", "early1", "early2")
    return fleet.launch(
        {key: {"run": "true"} for key in keys}, workspace={"repository": str(project.path), **workspace}
    )


def test_after_two_reworks_a_third_conflict_waits_for_a_person(project: Repository) -> None:
    mission = launch(project, reworks=2)
    waits = []
    for number in range(3):
        late = landing.begin(mission, "late")
        late.work(f"printf 'one\\nlate{number}\\nthree\\n' > app.py")
        change = late.commit()
        assert (
            landing.land(mission, f"early{number}", f"printf 'one\\nearly{number}\\nthree\\n' > app.py") == "succeeded"
        )
        settlement = late.merge(change)
        assert late.settle(settlement)
        waits.append(settlement.waits_on)
    assert waits == ["time", "time", "person"]
    sortie = Sortie.objects.get(mission=mission, key="late")
    assert (sortie.state, sortie.tries, sortie.attempt) == ("waiting", 0, 3)
    rows = Conflict.objects.filter(sortie=sortie).order_by("attempt")
    assert [(row.kind, row.outcome, row.others) for row in rows] == [
        ("merge", "rework", ["early0"]),
        ("merge", "rework", ["early1"]),
        ("merge", "manual", ["early2"]),
    ]
    states = Change.objects.filter(sortie=sortie).order_by("attempt").values_list("state", flat=True)
    assert list(states) == ["kept", "kept", "conflicted"]
    assert repository.branch(mission).read("app.py") == "one\nearly2\nthree\n"


def test_the_next_attempt_learns_of_every_file_that_conflicts_when_it_starts(project: Repository) -> None:
    mission = launch(project)
    late = landing.begin(mission, "late")
    late.work("sed -i s/two/late/ app.py b.py")
    change = late.commit()
    assert landing.land(mission, "early0", "sed -i s/two/early/ app.py") == "succeeded"
    assert late.settle(late.merge(change))
    assert Conflict.objects.get(sortie__mission=mission).files == ["app.py"]
    assert landing.land(mission, "early1", "sed -i s/two/early/ b.py") == "succeeded"
    next_attempt = landing.begin(mission, "late")
    next_attempt.work("grep -q '<<<<<<<' app.py; grep -q '<<<<<<<' b.py")
    description = json.loads((next_attempt.prepared.brief.scratch / CONFLICT).read_text())
    assert description["files"] == ["app.py", "b.py"]
    assert [row["subject"] for row in description["merged_since"]] == ["early1: A test", "early0: A test"]


@pytest.mark.parametrize("name", [b":(glob)**", b"\xff\xfe", b"new\nline", b"*"])
def test_only_the_files_that_conflict_are_shown_whatever_their_names(project: Repository, name: bytes) -> None:
    (project.path / os.fsdecode(name)).write_text("one\ntwo\nthree\n")
    project.commit({"README": "x\n"})
    mission = launch(project)
    late, early = landing.begin(mission, "late"), landing.begin(mission, "early0")
    for step, word in ((late, "late"), (early, "early")):
        step.work("echo x > other-$$")
        (step.workspace.copy.path / os.fsdecode(name)).write_text(f"one\n{word}\nthree\n")
    change = late.commit()
    assert early.settle(early.merge(early.commit()))
    assert late.settle(late.merge(change))
    conflict = Conflict.objects.get(sortie__mission=mission)
    assert conflict.files == [name.decode("utf-8", "replace")]
    next_attempt = landing.begin(mission, "late")
    next_attempt.work("true")
    description = json.loads((next_attempt.prepared.brief.scratch / CONFLICT).read_text())
    assert "+late" in description["yours"]
    assert "+early" in description["theirs"]
    assert "other-" not in description["yours"] + description["theirs"]


def test_folders_that_were_renamed_in_two_ways_are_a_conflict_without_a_file(tmp_path: Path) -> None:
    """Git cannot decide where a new file belongs. No file has conflict markers."""
    text = "".join(f"{number}\n" for number in range(50))
    project = repository.create(tmp_path / "project", {f"a/{name}": f"{name}\n{text}" for name in "1234"})
    theirs, ours = repository.sortie_copy(project), repository.sortie_copy(project)
    theirs.sh("mkdir b c; git mv a/1 a/2 b; git mv a/3 a/4 c")
    ours.sh("echo new > a/new")
    result = branches.merge(ours.copy.mirror, onto=theirs.commit().commit, commit=ours.commit().commit)
    assert not result.clean
    assert result.files == ()
    assert "Unclear where to rename a to" in result.text


def test_a_file_that_git_renamed_because_it_conflicts_with_a_folder_does_not_land(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "folders", {"a": "1\n"})
    mission = launch(project)
    late = landing.begin(mission, "late")
    late.work("echo file > part")
    change = late.commit()
    assert landing.land(mission, "early0", "mkdir part; echo folder > part/b") == "succeeded"
    assert late.settle(late.merge(change))
    next_attempt = landing.begin(mission, "late")
    next_attempt.work("echo more > c")
    with pytest.raises(refusals.CommitRefused, match="left over from a conflict between a file and a folder"):
        next_attempt.commit()


def test_a_failed_rework_fails_the_sortie_and_closes_the_conflict(project: Repository) -> None:
    mission = launch(project)
    late = landing.begin(mission, "late")
    late.work("sed -i s/two/late/ app.py")
    change = late.commit()
    assert landing.land(mission, "early0", "sed -i s/two/early/ app.py") == "succeeded"
    assert late.settle(late.merge(change))
    next_attempt = landing.begin(mission, "late")
    spec = SortieSpec.from_json(next_attempt.claim.spec)
    failure = verdict.failed(claim=next_attempt.claim, spec=spec, error="It gave up.", permanent=True)
    assert next_attempt.settle(replace(failure, has_change=True))
    conflict = Conflict.objects.get(sortie__key="late")
    assert (conflict.outcome, conflict.closed_at is not None) == ("failed", True)
