"""Each tick is launched once, with any number of control loops, and whenever one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from fleet import errors
from missions.models import Mission, Schedule, Tick
from missions.operations import plan_reading
from missions.operations import schedules as operations
from tests.support import schedules
from tests.support.paths import CHECKOUT
from tests.support.processes import killing
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def in_threads(*works: Callable[[], object]) -> None:
    """Run functions in threads that start together, each with its own connection."""
    barrier, failures = threading.Barrier(len(works)), []

    def run(work: Callable[[], object]) -> None:
        try:
            barrier.wait(20)
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def assert_each_tick_has_one_mission() -> None:
    missions = Tick.objects.filter(outcome="launched").values_list("mission", flat=True)
    assert Counter(missions) == Counter(Mission.objects.exclude(schedule=None).values_list("id", flat=True))


def test_one_of_many_concurrent_control_loops_launches_each_tick() -> None:
    for number in range(5):
        schedules.due(schedules.create(f"s{number}", cron="* * * * *", overlap="allow"), ago=timedelta(minutes=4))
    Schedule.objects.update(catch_up="all")
    first = {schedule.id: schedule.next_at for schedule in Schedule.objects.all()}
    in_threads(*6 * [schedules.drain])
    assert_each_tick_has_one_mission()
    for schedule in Schedule.objects.all():
        ticks = sorted(Tick.objects.filter(schedule=schedule).values_list("at", flat=True))
        assert ticks[0] == first[schedule.id]
        assert len(ticks) == schedule.runs in (4, 5, 6)
        assert schedule.next_at is not None
        assert schedule.next_at > ticks[-1]


def test_a_tick_is_launched_once_even_without_leases() -> None:
    """Every lease has already ended while its holder is still reading the plan."""
    schedule = schedules.due(schedules.create(cron="* * * * *", overlap="allow"))
    Schedule.objects.update(next_at=Now() + timedelta(days=1))
    schedule.refresh_from_db()
    now = schedule.next_at
    assert now is not None
    ticks: list[Tick | None] = []
    in_threads(*6 * [lambda: ticks.append(operations.decide_next(schedule=schedule.id, now=now))])
    assert Tick.objects.count() == Mission.objects.count() == 1
    assert sum(tick is not None for tick in ticks) == 1


def test_a_waiting_tick_is_launched_once() -> None:
    schedule = schedules.create(cron="0 0 1 1 *", overlap="queue")
    first = operations.run_now(schedule=schedule.id, can_execute=True).mission
    assert first is not None
    assert operations.run_now(schedule=schedule.id, can_execute=True).outcome == "waiting"
    schedules.end(first)
    now = Tick.objects.get(outcome="waiting").at
    in_threads(*6 * [lambda: operations.launch_waiting(schedule=schedule.id, now=now)])
    assert Mission.objects.count() == 2
    assert_each_tick_has_one_mission()


def test_a_request_at_the_moment_of_a_tick_affects_neither_launch() -> None:
    schedule = schedules.due(schedules.create(cron="0 0 1 1 *", overlap="allow"))

    def request() -> None:
        with suppress(errors.Conflict):  # launched at exactly this moment
            operations.run_now(schedule=schedule.id, can_execute=True)

    in_threads(request, schedules.drain, request, schedules.drain)
    schedules.drain()
    assert_each_tick_has_one_mission()
    assert Tick.objects.filter(requested=False).count() == 1
    schedule.refresh_from_db()
    assert schedule.runs == Mission.objects.count()


@pytest.mark.parametrize("overlap", ["allow", "queue"])
def test_a_tick_of_a_control_loop_that_is_killed_at_any_step_is_launched_once_by_another(overlap: str) -> None:
    schedule = schedules.create(cron="0 0 1 1 *", overlap=overlap)
    if overlap == "queue":  # the tick is already waiting, and becomes due when the mission ends
        earlier = operations.run_now(schedule=schedule.id, can_execute=True).mission
        assert earlier is not None
        operations.run_now(schedule=schedule.id, can_execute=True)
        schedules.end(earlier)
    else:
        schedules.due(schedule)
    plan_reading.reader.stop()  # otherwise the forked process would use this one's connection
    steps = launched_by_the_killed = 0
    for steps in killing.at_each_step(schedules.drain, folder=settings.FLEET_HOME.root, most=120):
        before = Mission.objects.count()
        assert_each_tick_has_one_mission()
        Schedule.objects.update(lease_until=Now() - timedelta(seconds=1))  # the tick has passed
        schedules.drain()
        assert_each_tick_has_one_mission()
        assert not Tick.objects.filter(outcome="waiting").exists()
        expected = steps + (overlap == "queue")
        assert Mission.objects.count() == expected
        launched_by_the_killed += before == expected
        if overlap == "queue":
            operations.run_now(schedule=schedule.id, can_execute=True)
            schedules.end(*Mission.objects.exclude(state="succeeded"))
        else:
            schedules.due(schedule)
        plan_reading.reader.stop()
    assert steps > 10
    assert launched_by_the_killed, "no kill was after the commit"


def control(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "fleet_control"],
        cwd=CHECKOUT,
        env={**environment, "FLEET_LEASE_S": "3", "FLEET_RENEW_S": "0.2", "FLEET_GRACE_S": "0.2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_control_processes_launch_each_tick_once_even_if_some_are_killed(
    subprocess_environment: dict[str, str],
) -> None:
    schedule = schedules.create(cron="0 0 1 1 *", overlap="allow")
    processes = [control(subprocess_environment) for _ in range(3)]
    try:
        for number in range(1, 13):
            schedules.due(schedule)
            if number in (5, 8):
                os.kill(processes.pop().pid, signal.SIGKILL)
            until(lambda number=number: Schedule.objects.get().runs >= number)  # type: ignore[misc]
        assert Schedule.objects.get().runs == Mission.objects.count() == Tick.objects.count() == 12
        assert_each_tick_has_one_mission()
        (last,) = processes
        last.terminate()
        assert last.wait(30) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
