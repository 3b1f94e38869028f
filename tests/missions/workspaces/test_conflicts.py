"""A change that conflicts is resolved by another attempt, waits for a person, or fails, as the plan says."""

from __future__ import annotations

import pytest

from missions.artifacts import collection
from missions.models import Attempt, Change, Conflict, Sortie
from missions.queries import mission_results
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_next_attempt_resolves_a_conflict_and_it_costs_no_try(project: Repository) -> None:
    mission = conflicting.launch(project)
    assert fleet.run_mission(mission, slots=3) == "succeeded"
    assert repository.branch(mission).read("app.py") == "one\nboth\nthree\n"
    late = Sortie.objects.get(mission=mission, key="late")
    assert (late.attempt, late.tries) == (2, 0)
    conflict = Conflict.objects.get(sortie=late)
    assert (conflict.kind, conflict.outcome, conflict.files, conflict.others) == (
        "merge",
        "rework",
        ["app.py"],
        ["early"],
    )
    assert [attempt.state for attempt in Attempt.objects.filter(sortie=late)] == ["committed", "succeeded"]
    assert [change.state for change in Change.objects.filter(sortie=late)] == ["kept", "landed"]


def test_the_attempt_that_resolves_it_sees_markers_and_both_sides(project: Repository) -> None:
    text = (
        'if test -n "$FLEET_CONFLICT"; then cp app.py "$FLEET_SCRATCH/seen.txt"; cp "$FLEET_CONFLICT" "$FLEET_SCRATCH/why.json";'
        ' printf "one\\nboth\\nthree\\n" > app.py; '
        f"else sed -i s/two/late/ app.py; {conflicting.SLOW.format(flag=project.path / 'flag')}; "
        'echo - > "$FLEET_SCRATCH/seen.txt"; echo - > "$FLEET_SCRATCH/why.json"; fi'
    )
    mission = fleet.launch(
        {
            "early": {"run": "sed -i s/two/early/ app.py"},
            "flag": {"run": f"touch {project.path / 'flag'}", "needs": ["early"], "workspace": False},
            "late": {"run": text, "outputs": ["seen.txt", "why.json"]},
        },
        folder=str(project.path),
        readable=[str(project.path)],
        workspace={"repository": "."},
    )
    assert fleet.run_mission(mission, slots=3) == "succeeded"
    files = {
        file.path: collection.open_stored(file) for file in mission_results.artifacts(mission) if file.attempt == 2
    }
    seen_text = files["seen.txt"].read().decode()
    assert "<<<<<<<" in seen_text
    assert "early" in seen_text
    assert "late" in seen_text
    assert ">>>>>>>" in seen_text
    why = files["why.json"].read().decode()
    assert "app.py" in why
    assert "+early" in why
    assert "+late" in why


def test_after_the_last_rework_it_waits_for_a_person_and_holds_nothing(project: Repository) -> None:
    mission = conflicting.launch(project, reworks=0)
    conflicting.wait_for_a_person(mission)
    late = Sortie.objects.get(mission=mission, key="late")
    assert late.lease_until is None
    assert late.wake_at is None
    assert "fleet_mission" not in late.waits_for, "only a reader knows how its commands are spelled"
    assert "early" in late.waits_for
    assert Conflict.objects.get(sortie=late).outcome == "manual"
    assert Change.objects.get(sortie=late).state == "conflicted"


def test_it_fails_if_the_plan_says_so(project: Repository) -> None:
    mission = conflicting.launch(project, conflicts="fail")
    assert fleet.run_mission(mission, slots=3) == "failed"
    late = Sortie.objects.get(mission=mission, key="late")
    assert late.state == "failed"
    assert "conflicts with early in app.py" in Attempt.objects.get(sortie=late).error
    assert repository.branch(mission).read("app.py") == "one\nearly\nthree\n"


def test_changes_that_merge_but_fail_together_are_reworked(project: Repository) -> None:
    flag = project.path / "flag"
    late = f'if test -z "$FLEET_CONFLICT"; then echo b > b; {conflicting.SLOW.format(flag=flag)}; else rm a; fi'
    mission = fleet.launch(
        {
            "early": {"run": "echo a > a"},
            "flag": {"run": f"touch {flag}", "needs": ["early"], "workspace": False},
            "late": {"run": late},
        },
        folder=str(project.path),
        readable=[str(project.path)],
        workspace={"repository": ".", "verify": "test ! -e a || test ! -e b"},
    )
    assert fleet.run_mission(mission, slots=3) == "succeeded"
    assert repository.branch(mission).files() == ["app.py", "b"]
    assert Conflict.objects.get(sortie__key="late", sortie__mission=mission).kind == "verify"


def test_only_those_who_changed_the_conflicting_files_are_named(project: Repository) -> None:
    mission = conflicting.launch(project, others={"other": {"run": "echo x > other.txt"}}, conflicts="manual")
    conflicting.wait_for_a_person(mission)
    assert "other: A test" in repository.branch(mission).subjects()
    conflict = Conflict.objects.get(sortie__mission=mission)
    assert (conflict.others, conflict.files) == (["early"], ["app.py"])
