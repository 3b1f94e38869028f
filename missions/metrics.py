"""Prometheus metrics of missions, sorties, queues and alerts. docs/metrics.md describes each series.

Totals come from `missions/queries/counters.py`; current values are read through the indexes of live rows. So the cost
of a scrape does not grow with history, except for the count of missions, which retention bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate

from django.db.models import Count, Min
from django.db.models.functions import Extract, Now
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from agents.models import Agent, AgentType
from fleet.monitoring.metrics import registry
from missions.control import admission, alerts
from missions.models import Alert, Attempt, Mission, Schedule, Sortie
from missions.queries import counters
from missions.queries.counters import Key, Total
from missions.states import MissionState, SortieState

LIVE = [state for state in SortieState if not state.final]
ENDED = [state for state in SortieState if state.final]
OUTCOMES = [outcome for outcome in Attempt.State if outcome != Attempt.State.RUNNING]


class MissionsCollector(Collector):
    """Reports 0 if there is nothing to count, so that no series ever disappears."""

    def describe(self) -> Iterator[Metric]:
        return iter(())  # without this, registering would collect, before there is a database

    def collect(self) -> Iterator[Metric]:
        counters.fold()  # if another process is counting, the totals are slightly old
        yield from _missions()
        yield from _sorties()
        yield from _alerts()
        yield from _queues()
        yield from _demand()
        totals = counters.totals()
        yield from _totals(totals, list(AgentType.objects.values_list("name", flat=True)))
        yield from _schedules(totals)


def _missions() -> Iterator[Metric]:
    missions = GaugeMetricFamily("fleet_missions", "Missions by state.", labels=["state"])
    by_state = dict(Mission.objects.order_by().values_list("state").annotate(number=Count("id")))
    for state in MissionState:
        missions.add_metric([state.value], by_state.get(state.value, 0))
    yield missions


def _sorties() -> Iterator[Metric]:
    sorties = GaugeMetricFamily("fleet_sorties", "Sorties that have not ended, by state.", labels=["state"])
    live = Sortie.objects.filter(state__in=LIVE).order_by()
    by_state = dict(live.values_list("state").annotate(number=Count("id")))
    for state in LIVE:
        sorties.add_metric([state.value], by_state.get(state.value, 0))
    yield sorties


def _alerts() -> Iterator[Metric]:
    active = GaugeMetricFamily("fleet_alerts", "Active alerts by rule.", labels=["rule"])
    by_rule = dict(Alert.objects.order_by().values_list("rule").annotate(number=Count("id")))
    for rule in alerts.RULES:
        active.add_metric([rule], by_rule.get(rule, 0))
    yield active


def _queues() -> Iterator[Metric]:
    depth = GaugeMetricFamily("fleet_queue_depth", "Queued sorties by agent type.", labels=["type"])
    wait = GaugeMetricFamily(
        "fleet_queue_oldest_wait_seconds", "How long the oldest queued sortie has waited.", labels=["type"]
    )
    queued = Sortie.objects.filter(state=SortieState.QUEUED).order_by().values_list("agent_type")
    rows = queued.annotate(number=Count("id"), oldest=Extract(Now() - Min("ready_at"), "epoch"))
    counted = {name: (number, oldest) for name, number, oldest in rows}
    for name in AgentType.objects.values_list("name", flat=True):
        number, oldest = counted.get(name, (0, None))
        depth.add_metric([name], number)
        wait.add_metric([name], max(0.0, float(oldest or 0)))
    yield from (depth, wait)


def _demand() -> Iterator[Metric]:
    """The signal for scaling nodes. While a type has no agent, its sorties are ready instead of queued."""
    demand = GaugeMetricFamily(
        "fleet_demand",
        "Sorties that run or are queued, or would be queued if the type had an agent, by agent type.",
        labels=["type"],
    )
    types = AgentType.objects.filter(enabled=True, external=False)
    served = Agent.objects.filter(state__in=Agent.LIVE).values("type")
    startable = admission.startable(list(types.exclude(name__in=served).values_list("name", flat=True)))
    active = Sortie.objects.filter(state__in=[SortieState.RUNNING, SortieState.QUEUED])
    counted: Counter[str] = Counter()
    for sorties in (active, Sortie.objects.filter(id__in=startable)):
        counted.update(dict(sorties.order_by().values_list("agent_type").annotate(number=Count("id"))))
    for name in AgentType.objects.values_list("name", flat=True):
        demand.add_metric([name], counted[name])
    yield demand


def _totals(totals: Mapping[Key, Total], types: list[str]) -> Iterator[Metric]:
    missions = CounterMetricFamily("fleet_missions_ended", "Missions that have ended.", labels=["outcome"])
    for mission_state in MissionState:
        if mission_state.final:
            outcome_count = _number(totals, "missions", "", mission_state.value)
            missions.add_metric([mission_state.value], outcome_count)
    yield missions
    sorties = CounterMetricFamily("fleet_sorties_ended", "Sorties that have ended.", labels=["type", "outcome"])
    attempts = CounterMetricFamily("fleet_attempts_ended", "Attempts that have ended.", labels=["type", "outcome"])
    retries = CounterMetricFamily("fleet_retries", "Failed attempts that are retried.", labels=["type"])
    losses = CounterMetricFamily("fleet_lease_losses", "Attempts taken from lost agents.", labels=["type"])
    agents = CounterMetricFamily("fleet_agents_ended", "Agents that have ended.", labels=["type", "outcome"])
    waits = HistogramMetricFamily("fleet_sortie_wait_seconds", "Time from queued to claimed.", labels=["type"])
    runs = HistogramMetricFamily("fleet_attempt_run_seconds", "Time from claimed to ended.", labels=["type"])
    for type in types:
        for state in ENDED:
            sorties.add_metric([type, state.value], _number(totals, "sorties", type, state.value))
        for outcome in OUTCOMES:
            attempts.add_metric([type, outcome.value], _number(totals, "attempts", type, outcome.value))
        retries.add_metric([type], _number(totals, "retries", type))
        losses.add_metric([type], _number(totals, "losses", type))
        for end in ("terminated", "lost", "failed"):
            agents.add_metric([type, end], _number(totals, "agents", type, end))
        _observe(waits, [type], [total for key, total in totals.items() if key[:2] == ("waits", type)])
        _observe(runs, [type], [total for key, total in totals.items() if key[:2] == ("attempts", type)])
    yield from (sorties, attempts, retries, losses, agents, waits, runs)
    restarts = CounterMetricFamily(
        "fleet_service_restarts", "Starts of a service after it had failed.", labels=["service"]
    )
    for (series, service, _), total in totals.items():
        if series == "restarts":
            restarts.add_metric([service], total.number)
    yield restarts


def _schedules(totals: Mapping[Key, Total]) -> Iterator[Metric]:
    schedules = GaugeMetricFamily("fleet_schedules", "Schedules by state.", labels=["state"])
    paused = dict(Schedule.objects.order_by().values_list("paused").annotate(number=Count("id")))
    schedules.add_metric(["active"], paused.get(False, 0))
    schedules.add_metric(["paused"], paused.get(True, 0))
    yield schedules
    ticks = CounterMetricFamily("fleet_schedule_ticks", "Ticks of schedules by outcome.", labels=["outcome"])
    for outcome in ("launched", "skipped", "failed", "missed"):
        ticks.add_metric([outcome], _number(totals, "schedules", "", outcome))
    yield ticks
    late = HistogramMetricFamily(
        "fleet_schedule_late_seconds", "Time from a tick's scheduled time to its launch.", labels=[]
    )
    launched = totals.get(("schedules", "", "launched"))
    _observe(late, [], [launched] if launched else [])
    yield late


def _number(totals: Mapping[Key, Total], series: str, subject: str, outcome: str = "") -> int:
    total = totals.get((series, subject, outcome))
    return total.number if total else 0


def _observe(family: HistogramMetricFamily, labels: list[str], parts: list[Total]) -> None:
    counts = [sum(part.buckets[index] for part in parts) for index in range(len(counters.BOUNDS) + 1)]
    names = [*(f"{bound:g}" for bound in counters.BOUNDS), "+Inf"]
    buckets = [(name, float(count)) for name, count in zip(names, accumulate(counts), strict=True)]
    family.add_metric(labels, buckets=buckets, sum_value=sum(part.seconds for part in parts))


registry.register(MissionsCollector())
