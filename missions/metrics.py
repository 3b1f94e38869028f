"""What Prometheus sees of missions, sorties, queues and agents."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count, Min, QuerySet
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from agents.models import Agent
from fleet.metrics import registry
from missions.models import Mission, Sortie


class FleetCollector(Collector):
    """Counts at the moment of the scrape."""

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield _by_state("fleet_missions", "Missions by state.", Mission.objects.all())
        yield _by_state("fleet_sorties", "Sorties by state.", Sortie.objects.all())
        yield _by_state("fleet_agents", "Live agents by state.", Agent.objects.filter(state__in=Agent.LIVE))
        depth = GaugeMetricFamily("fleet_queue_depth", "Queued sorties by agent type.", labels=["type"])
        wait = GaugeMetricFamily(
            "fleet_queue_oldest_wait_seconds", "Wait of the oldest queued sortie.", labels=["type"]
        )
        queued = Sortie.objects.filter(state="queued").order_by().values_list("agent_type")
        for name, number, oldest in queued.annotate(number=Count("id"), oldest=Min("ready_at")):
            depth.add_metric([name], number)
            if oldest is not None:
                wait.add_metric([name], (timezone.now() - oldest).total_seconds())
        yield depth
        yield wait


def _by_state(name: str, words: str, rows: QuerySet[Mission] | QuerySet[Sortie] | QuerySet[Agent]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=["state"])
    for state, number in rows.order_by().values_list("state").annotate(number=Count("id")):
        family.add_metric([state], number)
    return family


registry.register(FleetCollector())
