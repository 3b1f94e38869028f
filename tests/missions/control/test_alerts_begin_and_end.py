"""Each alert rule records one event when it begins and one when it ends, however many control loops check it."""

from __future__ import annotations

import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from agents import operations as agents
from agents.models import Agent
from fleet import ids
from fleet.celery import app
from fleet.events.models import Event
from missions import operations
from missions.control import alerts
from missions.control.alerts import AlertMonitor
from missions.control.loop import ControlLoop
from missions.hints import HintPublisher
from missions.models import Alert, CounterMark, Mission, Sortie
from missions.operations import external_agents
from tests.support import console, fleet
from tests.support.paths import CHECKOUT

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def events(kind: str) -> list[dict[str, Any]]:
    return list(Event.objects.filter(kind=kind).order_by("id").values_list("data", flat=True))


def rules() -> set[str]:
    return {alert["rule"] for alert in alerts.active()}


def lose_agents(count: int) -> None:
    lost = [ids.new() for _ in range(count)]
    for agent in lost:
        agents.register(agent=agent, agent_type="backend", node="test", pid=1, start_time=0.0)
    agents.end(agents=lost, state=Agent.State.LOST, reason="A test ended it.")


def age(past_s: float) -> None:
    """Make everything recorded so far look this old."""
    mark = CounterMark.objects.get()
    CounterMark.objects.update(past=[[at - past_s, sums] for at, sums in mark.past])


def test_a_queue_that_waits_too_long_raises_one_alert_and_clears_it_once() -> None:
    watch = AlertMonitor()
    external_agents.register(agent_type="backend")
    mission = fleet.launch({"a": {}})
    watch.check()
    assert rules() == set()
    Sortie.objects.update(ready_at=timezone.now() - timedelta(seconds=400))
    for _ in range(3):
        watch.check()
    (event,) = events("alert.raised")
    assert (event["rule"], event["subject"]) == ("queue_old", "backend")
    assert "has waited 6 min 4" in event["message"]
    operations.cancel(mission=mission.id)
    watch.check()
    assert rules() == {"queue_old"}, "it is not cleared yet, because the condition may return"
    Alert.objects.update(raised_at=timezone.now() - timedelta(seconds=90))
    with override_settings(FLEET_ALERT_QUIET_S=0):
        watch.check()
        watch.check()
    assert rules() == set()
    (cleared,) = events("alert.cleared")
    assert (cleared["rule"], cleared["subject"]) == ("queue_old", "backend")
    assert 90 <= cleared["lasted_s"] < 120


def test_two_concurrent_control_loops_raise_and_clear_an_alert_once() -> None:
    fleet.launch({"a": {}, "b": {"agent": "testing"}})
    Sortie.objects.update(ready_at=timezone.now() - timedelta(seconds=400))

    def run_checks() -> None:
        watch = AlertMonitor()
        for _ in range(10):
            watch.check()
        connections.close_all()

    def all_look() -> None:
        threads = [threading.Thread(target=run_checks) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    all_look()
    assert sorted(event["subject"] for event in events("alert.raised")) == ["backend", "testing"]
    Sortie.objects.update(ready_at=timezone.now())
    with override_settings(FLEET_ALERT_QUIET_S=0):
        all_look()
    assert sorted(event["subject"] for event in events("alert.cleared")) == ["backend", "testing"]
    assert len(events("alert.raised")) == 2


def test_agents_lost_within_the_window_raise_an_alert_and_older_losses_do_not() -> None:
    watch = AlertMonitor(startup_s=0)
    watch.check()
    lose_agents(3)
    watch.check()
    assert rules() == set(), "three losses do not raise an alert"
    lose_agents(1)
    watch.check()
    assert [alert["message"] for alert in alerts.active()] == [
        "4 agents were lost within 10 min. See: ./manage.py fleet_agents list --all"
    ]
    age(60)
    watch.check()
    age(700)
    with override_settings(FLEET_ALERT_QUIET_S=0):
        watch.check()
    assert rules() == set()


def test_agents_that_are_found_lost_while_the_fleet_starts_raise_no_alert() -> None:
    AlertMonitor(startup_s=0).check()  # before the fleet went down, or the backup was made
    watch = AlertMonitor(startup_s=60)
    lose_agents(10)
    watch.check()
    assert rules() == set()
    running = AlertMonitor(startup_s=0)
    running.check()
    assert rules() == {"agents_lost"}, "a control loop that was up all the time counts them"


def test_a_stored_command_is_shown_as_its_reader_types_it(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = AlertMonitor(startup_s=0)
    watch.check()
    lose_agents(4)
    watch.check()
    monkeypatch.setattr(sys, "argv", [str(CHECKOUT / "manage.py")])
    with override_settings(FLEET_COMMAND="fleet"):
        (alert,) = alerts.active()
    assert alert["message"] == "4 agents were lost within 10 min. See: fleet agents list --all"


def test_events_before_the_first_check_raise_no_alert() -> None:
    lose_agents(10)
    AlertMonitor().check()
    assert rules() == set()


def test_a_high_share_of_retries_raises_an_alert() -> None:
    watch = AlertMonitor()
    watch.check()
    engine = fleet.engine(slots=2)
    failing = {"with": {"fail": "no"}, "retry": {"max_attempts": 2, "backoff": "10ms", "jitter": False}}
    fleet.run_to_end(engine, fleet.launch({f"s{n}": failing for n in range(12)}))
    engine.stop(within_s=5)
    watch.check()
    assert [alert["message"] for alert in alerts.active()] == [
        "12 of 24 attempts within 10 min failed and are retried."
    ]


def test_a_mission_without_progress_is_stalled_unless_it_waits_for_a_time() -> None:
    mission = fleet.launch({"a": {}, "b": {"needs": ["a"]}})
    fleet.launch({"later": {"run_at": (timezone.now() + timedelta(hours=1)).isoformat()}})
    running = fleet.launch({"c": {"agent": "testing"}})
    fleet.beat()
    engine = fleet.engine("testing")
    assert len(engine.committer.settle_and_claim(max_claims=1)) == 1
    watch = AlertMonitor()
    watch.check()
    assert rules() == set()
    Event.objects.update(at=timezone.now() - timedelta(seconds=1000))
    with override_settings(FLEET_ALERT_QUEUE_S=0):
        watch.check()
    assert Mission.objects.filter(state="running").count() == 3
    assert fleet.states(running.id) == {"c": "running"}
    (event,) = alerts.active()
    assert event["subject"] == mission.ref
    assert "has made no progress for 16 min 4" in event["message"]
    assert "(1 pending, 1 queued)" in event["message"]
    assert Event.objects.get(kind="alert.raised").subject == mission.id
    operations.pause(mission=mission.id)
    with override_settings(FLEET_ALERT_QUEUE_S=0, FLEET_ALERT_QUIET_S=0):
        watch.check()
    assert rules() == set()
    engine.stop(within_s=1)


def test_restarts_of_a_service_within_the_window_raise_an_alert() -> None:
    watch = AlertMonitor()
    watch.check()
    Event.objects.bulk_create(Event(kind="service.restarted", data={"service": "web"}) for _ in range(4))
    watch.check()
    assert [(alert["rule"], alert["subject"]) for alert in alerts.active()] == [("service_restarting", "web")]


def test_zero_turns_a_rule_off() -> None:
    watch = AlertMonitor(startup_s=0)
    watch.check()
    fleet.launch({"a": {}, "b": {"agent": "testing"}})
    external_agents.register(agent_type="backend")
    lose_agents(9)
    Event.objects.bulk_create(Event(kind="service.restarted", data={"service": "web"}) for _ in range(9))
    Sortie.objects.update(ready_at=timezone.now() - timedelta(days=1))
    Event.objects.update(at=timezone.now() - timedelta(days=1))
    off = (
        "QUEUE_S",
        "UNSERVED_S",
        "SILENCE_S",
        "STALLED_S",
        "AGENTS_LOST",
        "RETRY_SHARE",
        "RESTARTS",
        "RESPONSE_S",
        "MEMORY_MB",
    )
    with override_settings(**{f"FLEET_ALERT_{name}": 0 for name in off}):
        watch.check()
    assert rules() == set()
    watch.check()
    assert rules() == {"queue_old", "unserved", "mission_stalled", "agents_lost", "service_restarting"}


def test_the_control_loop_checks_and_status_shows_raised_alerts() -> None:
    fleet.launch({"a": {}})
    external_agents.register(agent_type="backend")
    Sortie.objects.update(ready_at=timezone.now() - timedelta(seconds=400))
    ControlLoop(hint_publisher=HintPublisher(app)).beat()
    (alert,) = console.manage("fleet_status", "--json").json["alerts"]
    assert alert["rule"] == "queue_old"
    assert alert["message"] in console.manage("fleet_status").out.replace("\n          ", " ")
    assert Alert.objects.get().seen_at >= Alert.objects.get().raised_at
