"""What Prometheus sees of missions, sorties, queues and agents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.db.models import Count, Min, QuerySet
from django.db.models.functions import Extract, Now
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from agents.models import Agent, AgentType
from fleet.metrics import registry
from missions.models import Mission, Sortie
from missions.states import MissionState, SortieState


class FleetCollector(Collector):
    """Counts at the moment of the scrape. What there is none of is told as 0: a series never disappears."""

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())  # or else registering would collect, before there is a database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield _by_state("fleet_missions", "Missions by state.", MissionState, Mission.objects.all())
        yield _by_state("fleet_sorties", "Sorties by state.", SortieState, Sortie.objects.all())
        yield _by_state(
            "fleet_agents", "Agents by state, those of the past included.", Agent.State, Agent.objects.all()
        )
        yield from _queues()


def _by_state(
    name: str, words: str, states: Iterable[str], rows: QuerySet[Mission] | QuerySet[Sortie] | QuerySet[Agent]
) -> GaugeMetricFamily:
    counted = dict(rows.order_by().values_list("state").annotate(number=Count("id")))
    family = GaugeMetricFamily(name, words, labels=["state"])
    for state in states:
        family.add_metric([str(state)], counted.get(state, 0))
    return family


def _queues() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
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
    return depth, wait


registry.register(FleetCollector())
