"""The Prometheus metrics of nodes and live agents."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agents.models import Agent, AgentType, Node
from fleet.monitoring.metrics import registry


class AgentsCollector(Collector):
    def describe(self) -> Iterator[Metric]:
        return iter(())  # without this, registering would collect metrics before there is a database

    def collect(self) -> Iterator[Metric]:
        agents = GaugeMetricFamily("fleet_agents", "Live agents, by type and state.", labels=["type", "state"])
        live = Agent.objects.filter(state__in=Agent.LIVE).order_by().values_list("type", "state")
        counts = {(type, state): number for type, state, number in live.annotate(number=Count("id"))}
        for type in AgentType.objects.values_list("name", flat=True):
            for state in Agent.LIVE:
                agents.add_metric([type, state.value], counts.get((type, state.value), 0))
        yield agents
        nodes = GaugeMetricFamily("fleet_nodes", "Nodes, by whether they are up.", labels=["state"])
        up = dict(Node.objects.order_by().values_list("up").annotate(number=Count("id")))
        nodes.add_metric(["up"], up.get(True, 0))
        nodes.add_metric(["down"], up.get(False, 0))
        yield nodes


registry.register(AgentsCollector())
