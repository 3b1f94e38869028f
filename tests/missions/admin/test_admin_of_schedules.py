"""The admin shows a schedule's next times and its last ticks, and pauses, resumes and runs it."""

from __future__ import annotations

import pytest
from django.urls import reverse

from missions.models import Mission, Schedule
from tests.support import schedules, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_schedule_is_paused_resumed_and_run() -> None:
    boss, schedule = web.superuser(), schedules.create()
    assert "Paused: 1" in web.run_action(boss, "pause", schedule)
    assert Schedule.objects.get().reason == "By boss in the admin."
    assert "is already paused" in web.run_action(boss, "pause", schedule)
    assert "Resumed: 1" in web.run_action(boss, "resume", schedule)
    assert not Schedule.objects.get().paused
    assert "Requested: 1" in web.run_action(boss, "run", schedule)
    assert Mission.objects.get().schedule == schedule
    assert "has not ended" in web.run_action(boss, "run", schedule)


def test_its_page_shows_the_next_five_times_in_its_zone_and_what_happened() -> None:
    schedule = schedules.due(schedules.create(timezone="Australia/Lord_Howe"))
    schedules.drain()
    boss = web.superuser()
    page = boss.get(reverse("admin:missions_schedule_change", args=[schedule.id])).content.decode()
    assert page.count(" 02:30 +1") == 5
    assert "At 02:30 every day" in page
    assert Mission.objects.get().ref in page
    list_page = boss.get(reverse("admin:missions_schedule_changelist")).content.decode()
    assert "nightly" in list_page
    missions = boss.get(reverse("admin:missions_mission_changelist"), {"q": schedule.ref}).content.decode()
    assert Mission.objects.get().ref in missions


def test_staff_without_plan_execute_cannot_run_code_of_others() -> None:
    schedule = schedules.create()
    clerk = web.staff("view_schedule", "change_schedule")
    assert "requires plan.execute" in web.run_action(clerk, "run", schedule)
    assert "Paused: 1" in web.run_action(clerk, "pause", schedule)
    assert not Mission.objects.exists()


def test_staff_who_may_only_view_cannot_act() -> None:
    schedule = schedules.create()
    web.run_action(web.staff("view_schedule"), "pause", schedule)
    assert not Schedule.objects.get().paused
