"""fleet_schedule create, change, list, show, preview, pause, resume, run and delete."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from missions.models import Mission, Schedule
from tests.support import api, schedules
from tests.support.console import CommandResult, manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.yaml"
    path.write_text(schedules.PLAN)
    return str(path)


def schedule(*arguments: str) -> CommandResult:
    return manage("fleet_schedule", *arguments)


def create(plan: str, *more: str, name: str = "nightly") -> CommandResult:
    return schedule("create", name, plan, "--cron", "30 2 * * *", "--timezone", "America/New_York", *more)


def test_a_schedule_is_created_with_the_operators_rights_in_the_current_folder(plan: str) -> None:
    result = create(plan, "--param", "day={{ schedule.date }}", "--overlap", "queue", "--deadline", "2h")
    assert result.code == 0, result.err
    row = Schedule.objects.get()
    assert (row.operator, row.owner, row.folder) == (True, None, str(Path.cwd()))
    assert (row.overlap, row.deadline_s, row.params) == ("queue", 7_200.0, {"day": "{{ schedule.date }}"})
    assert result.err.startswith(f"Created nightly ({row.ref}). Next: ")
    assert "02:30" in result.err


def test_a_schedule_can_have_the_rights_of_a_user(plan: str) -> None:
    ann = api.person("ann", can_execute=True).user
    assert create(plan, "--owner", "ann", "--json").json["owner"] == "ann"
    assert (Schedule.objects.get().owner, Schedule.objects.get().operator) == (ann, False)
    assert create(plan, "--owner", "nobody", name="other").code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--cron", "0 0 30 2 *"], 2, "never matches"),
        (["--cron", "@daily", "--timezone", "Mars"], 2, "There is no time zone 'Mars'"),
        (["--cron", "@daily", "--overlap", "x"], 2, "invalid choice"),
        (["--cron", "@daily", "--param", "no=1"], 2, "is not an input of this plan"),
        ([], 2, "--cron"),
    ],
)
def test_a_wrong_schedule_is_wrong_usage_and_stores_nothing(
    plan: str, arguments: list[str], code: int, words: str
) -> None:
    result = schedule("create", "nightly", plan, *arguments)
    assert (result.code, words in result.err) == (code, True), result.err
    assert not Schedule.objects.exists()


def test_the_list_and_the_page_of_a_schedule_show_its_next_times_and_its_ticks(plan: str) -> None:
    assert schedule("list").err == "There are no schedules.\n"
    create(plan)
    row = schedules.due(Schedule.objects.get())
    schedules.drain()
    output = schedule("list").out
    assert row.ref in output
    assert "America/New_York" in output
    header, line = output.splitlines()
    assert line[header.index("LAST TICK") :] == "launched"
    details = schedule("show", "nightly").out
    assert "At 02:30 every day" in details
    assert details.count("  next  ") == details.lower().count("next") == 5
    mission = Mission.objects.get()
    assert f"launched  {mission.ref}" in details
    document = schedule("show", row.ref, "--json").json
    assert document["ticks"] == [document["last"]]
    assert schedule("list", "--json").json[0]["last"] == document["last"]
    assert manage("fleet_mission", "list", "--schedule", "nightly", "--json").json[0]["id"] == mission.ref
    assert manage("fleet_mission", "list", "--schedule", "nothing").code == 1


def test_the_page_of_a_schedule_counts_missed_ticks(plan: str) -> None:
    schedule("create", "nightly", plan, "--cron", "* * * * *")
    schedules.due(Schedule.objects.get(), ago=timedelta(minutes=10))
    schedules.drain()
    assert re.search(r"launched, (9|10) missed before it  msn_", schedule("show", "nightly").out)


def test_a_preview_needs_no_schedule() -> None:
    result = schedule("preview", "30 2 * * *", "--timezone", "Australia/Lord_Howe", "-n", "3")
    assert len(result.out.splitlines()) == 3
    assert all(line[11:16] == "02:30" for line in result.out.splitlines())
    assert schedule("preview", "@daily", "--json").json["explanation"] == "At 00:00 every day"
    assert schedule("preview", "0 0 31 2 *").code == 2


def test_each_action_reports_what_it_did(plan: str) -> None:
    create(plan)
    ref = Schedule.objects.get().ref
    assert schedule("pause", "nightly", "--reason", "Holidays").err == f"Paused nightly ({ref}). Reason: Holidays\n"
    assert "It is paused: Holidays" in schedule("show", "nightly").out
    assert schedule("pause", "nightly").code == 1
    assert "Next: " in schedule("resume", "nightly").err
    assert schedule("change", "nightly", "--cron", "@hourly", "--json").json["cron"] == "@hourly"
    assert schedule("change", "nightly").code == 2
    run = schedule("run", "nightly", "--json").json
    assert run["mission"] == Mission.objects.get().ref
    assert schedule("run", "nightly").code == 1  # the mission is still running
    assert schedule("delete", "nightly").err == "Deleted nightly. Its missions stay.\n"
    assert schedule("show", "nightly").code == 1
    assert Mission.objects.get().schedule_id is None


def test_a_plan_is_replaced(plan: str, tmp_path: Path) -> None:
    create(plan)
    other = tmp_path / "other.yaml"
    other.write_text(schedules.PLAN.replace("Scheduled", "Another"))
    assert schedule("change", "nightly", "--plan", str(other)).code == 0
    schedule("run", "nightly")
    assert Mission.objects.get().name == "Another"


def test_a_name_that_two_users_have_must_be_an_id(plan: str) -> None:
    api.person("ann", can_execute=True)
    create(plan)
    create(plan, "--owner", "ann")
    result = schedule("show", "nightly")
    assert result.code == 1
    assert all(row.ref in result.err for row in Schedule.objects.all())


@pytest.mark.parametrize("text", ["nothing", "sch_x", "", "a\udcff\x1b"])
def test_an_unknown_schedule_is_an_error(text: str) -> None:
    result = schedule("show", text)
    assert result.code in (1, 2)
    assert "\x1b" not in result.err


def test_status_shows_schedules_and_the_next_one() -> None:
    assert manage("fleet_status", "--json").json["schedules"] == {}
    assert "Schedules" not in manage("fleet_status").out
    schedules.create("weekly", cron="@weekly")
    schedules.create("hourly", cron="@hourly")
    schedules.create("minutely", cron="* * * * *")
    assert schedule("pause", "minutely").code == 0
    details = manage("fleet_status", "--json").json["schedules"]
    assert (details["number"], details["paused"], details["next"]) == (3, 1, "hourly")
    assert 0 <= details["next_in_s"] <= 3_600
    assert "Schedules 3 (1 paused), next hourly in " in manage("fleet_status").out
