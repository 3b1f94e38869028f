"""Metric totals count each event once, never decrease, and are current at each scrape."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.test import Client
from django.utils import timezone

from agents import operations as agents
from agents.models import Agent
from fleet.events.models import Event
from missions import operations
from missions.control import duties
from missions.models import CounterMark, Mission, Sortie
from missions.operations import cleaning
from missions.queries import counters
from tests.support import fleet, web
from tests.support.repository import Repository
from tests.support.waiting import until
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def counts(series: str) -> dict[tuple[str, str], int]:
    return {key[1:]: total.number for key, total in counters.totals().items() if key[0] == series}


def test_a_finished_mission_is_counted_once_over_many_scrapes(client: Client) -> None:
    engine = fleet.engine()
    retry = {"with": {"fail": "no"}, "retry": {"max_attempts": 2, "backoff": "10ms", "jitter": False}}
    mission = fleet.launch({"good": {}, "bad": retry, "late": {"needs": ["bad"]}, "end": {"needs": ["good"]}})
    assert fleet.run_to_end(engine, mission) == "failed"
    engine.stop(within_s=5)
    first = web.scrape(client)
    assert first['fleet_sorties_ended_total{outcome="succeeded",type="backend"}'] == 2
    assert first['fleet_sorties_ended_total{outcome="failed",type="backend"}'] == 1
    assert first['fleet_sorties_ended_total{outcome="skipped",type="backend"}'] == 1
    assert first['fleet_attempts_ended_total{outcome="failed",type="backend"}'] == 2
    assert first['fleet_retries_total{type="backend"}'] == 1
    assert first['fleet_missions_ended_total{outcome="failed"}'] == 1
    assert first['fleet_attempt_run_seconds_count{type="backend"}'] == 4
    assert first['fleet_attempt_run_seconds_bucket{le="+Inf",type="backend"}'] == 4
    assert 0 < first['fleet_attempt_run_seconds_sum{type="backend"}'] < 30
    assert first['fleet_sortie_wait_seconds_count{type="backend"}'] == 4
    totals = {name: value for name, value in first.items() if "_total{" in name or "_seconds_" in name}
    for _ in range(3):
        second_scrape = web.scrape(client)
        assert {name: second_scrape[name] for name in totals} == totals


def test_an_attempt_whose_change_waits_for_its_merge_or_conflicts_is_not_a_retry(
    client: Client, project: Repository
) -> None:
    mission = conflicting.waiting_for_a_person(project)
    late = Sortie.objects.get(mission=mission, key="late")
    assert (late.state, late.waits_on) == ("waiting", "person")
    totals = web.scrape(client)
    assert totals['fleet_attempts_ended_total{outcome="committed",type="backend"}'] >= 1
    assert totals['fleet_retries_total{type="backend"}'] == 0


def test_totals_do_not_decrease_after_a_cleanup(client: Client) -> None:
    engine = fleet.engine()
    for _ in range(2):
        fleet.run_to_end(engine, fleet.launch({"a": {}, "b": {}}))
    engine.stop(within_s=5)
    missions = cleaning.outdated(now=timezone.now(), days=30, keep=0)
    assert cleaning.remove(missions=missions) == 2  # before the first count
    found = web.scrape(client)
    assert found['fleet_missions{state="succeeded"}'] == 0
    assert found['fleet_missions_ended_total{outcome="succeeded"}'] == 2
    assert found['fleet_sorties_ended_total{outcome="succeeded",type="backend"}'] == 4
    assert found['fleet_attempt_run_seconds_count{type="backend"}'] == 4


def test_a_reopened_sortie_is_counted_again() -> None:
    engine = fleet.engine()
    mission = fleet.launch({"a": {"with": {"fail": "no"}}})
    fleet.run_to_end(engine, mission)
    operations.retry(mission=mission.id, can_execute=True)
    fleet.run_to_end(engine, mission)
    engine.stop(within_s=5)
    counters.fold()
    assert counts("sorties") == {("backend", "failed"): 2}
    assert counts("missions") == {("", "failed"): 2}


def test_an_event_that_commits_late_is_counted() -> None:
    """Its id and its transaction are older than those of events that were already counted."""
    has_written, may_end = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            Event.objects.create(kind="service.restarted", data={"service": "early"})
            has_written.set()
            may_end.wait(60)
        connections.close_all()

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        assert has_written.wait(60)
        deadline = time.monotonic() + 20
        for number in range(3):
            Event.objects.create(kind="service.restarted", data={"service": f"late {number}"})
            counters.fold()
            CounterMark.objects.update(at="2020-01-01T00:00:00Z")  # as if the last id had been recorded long ago
        assert time.monotonic() < deadline
        assert counts("restarts") == {(f"late {number}", ""): 1 for number in range(3)}
    finally:
        may_end.set()
        thread.join(60)
    for _ in range(4):
        counters.fold()
        CounterMark.objects.update(at="2020-01-01T00:00:00Z")
    assert counts("restarts") == {("early", ""): 1, **{(f"late {number}", ""): 1 for number in range(3)}}


def test_concurrent_scrapes_count_each_event_once() -> None:
    Event.objects.bulk_create(Event(kind="service.restarted", data={"service": "web"}) for _ in range(500))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            Event.objects.create(kind="service.restarted", data={"service": "web"})
        connections.close_all()

    def count() -> None:
        while not stop.is_set():
            counters.fold()
        connections.close_all()

    threads = [threading.Thread(target=target) for target in (write, write, count, count)]
    for thread in threads:
        thread.start()
    until(lambda: Event.objects.count() > 700)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert counters.fold()
    assert counts("restarts") == {("web", ""): Event.objects.filter(kind="service.restarted").count()}


def test_old_events_are_not_read_again() -> None:
    Event.objects.bulk_create(Event(kind="service.normal", data={}) for _ in range(50))
    last = Event.objects.order_by("-id").values_list("id", flat=True)[0]

    def has_settled() -> bool:
        CounterMark.objects.update(at="2020-01-01T00:00:00Z")
        counters.fold()
        return CounterMark.objects.get().settled >= last

    until(has_settled)  # transactions in other tests' databases may have to end first
    before = _version_of_the_mark()
    assert counters.fold()
    assert _version_of_the_mark() == before, "an idle fleet writes nothing"


def test_counting_continues_after_a_restore_into_another_cluster() -> None:
    Event.objects.create(kind="service.restarted", data={"service": "web"})
    counters.fold()
    CounterMark.objects.update(snapshot="9000000000:9000000000:")
    counters.fold()
    Event.objects.create(kind="service.restarted", data={"service": "web"})
    counters.fold()
    assert counts("restarts") == {("web", ""): 2}


def test_lost_agents_and_their_rescued_sorties_are_counted(client: Client) -> None:
    engine = fleet.engine(slots=1)
    fleet.launch({"a": {}})
    assert len(engine.committer.settle_and_claim(max_claims=1)) == 1
    agents.end(agents=[engine.agent], state=Agent.State.LOST, reason="A test ended it.", reaped=True)
    duties.rescue()
    engine.stop(within_s=1)
    found = web.scrape(client)
    assert found['fleet_agents_ended_total{outcome="lost",type="backend"}'] == 1
    assert found['fleet_lease_losses_total{type="backend"}'] == 1


def test_waits_are_measured_from_ready_to_claimed(client: Client) -> None:
    mission = fleet.launch({"a": {}})
    Sortie.objects.filter(mission=mission).update(ready_at=timezone.now() - timedelta(seconds=40))
    engine = fleet.engine()
    fleet.run_to_end(engine, mission)
    engine.stop(within_s=5)
    found = web.scrape(client)
    wait = 'fleet_sortie_wait_seconds_bucket{le="%s",type="backend"}'
    assert [found[wait % bound] for bound in ("30", "60", "+Inf")] == [0, 1, 1]
    assert 40 <= found['fleet_sortie_wait_seconds_sum{type="backend"}'] < 60


def test_totals_contain_every_ended_sortie() -> None:
    engine = fleet.engine(slots=2)
    for number in range(3):
        plan = {f"s{n}": {"with": {"fail": "x"}} if (n + number) % 4 == 0 else {} for n in range(12)}
        fleet.run_to_end(engine, fleet.launch({**plan, "end": {"needs": ["s0"]}}))
        counters.fold()
    engine.stop(within_s=5)
    assert Mission.objects.count() == 3
    rows = Counter(Sortie.objects.values_list("state", flat=True))
    assert {outcome: number for (_, outcome), number in counts("sorties").items()} == dict(rows)


def _version_of_the_mark() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin::text FROM missions_countermark")
        return str(cursor.fetchone()[0])
