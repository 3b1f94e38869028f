"""`/metrics` for Prometheus, behind the token `metrics_token` of the credentials: `Authorization: Bearer …`.

Everything is read from the database (and what services do, from their supervisor) at each scrape, so the figures are
exact whatever the number of processes. Collectors are registered by the apps above (`metrics.py` in each, loaded when
Django is ready).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet import errors
from fleet.services.supervision import control_socket

registry = CollectorRegistry(auto_describe=False)

PATIENCE_S = 2


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    wanted = f"Bearer {settings.FLEET_CREDENTIALS.metrics_token}"
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), wanted.encode()):
        return HttpResponse("A bearer token is needed.\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def services() -> list[dict[str, Any]]:
    """What this host's supervisor says of each service; nothing where there is no supervisor, or it does not answer."""
    try:
        return list(control_socket.ask(settings.FLEET_HOME, {"do": "status"}, seconds=PATIENCE_S)["services"])
    except errors.FleetError:
        return []


class ServicesCollector(Collector):
    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("fleet_service_up", "1 where a service answers.", labels=["service"])
        slow = GaugeMetricFamily("fleet_service_response_seconds", "Its last answer to a probe.", labels=["service"])
        size = GaugeMetricFamily("fleet_service_memory_bytes", "With its descendants.", labels=["service"])
        for service in services():
            name = [service["name"]]
            up.add_metric(name, service["healthy"])
            if service["response_ms"] is not None:
                slow.add_metric(name, service["response_ms"] / 1000)
            if service["memory_bytes"] is not None:
                size.add_metric(name, service["memory_bytes"])
        yield from (up, slow, size)


registry.register(ServicesCollector())
