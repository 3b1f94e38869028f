"""`/metrics` for Prometheus. It requires `Authorization: Bearer …` with the `metrics_token` of the credentials.

Each scrape reads everything from the database, and the state of the services from their supervisor, so the figures do
not depend on which process answers. Apps register their collectors in a `metrics.py`, which their
`registrations.py` imports.
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

from fleet import errors, registrations
from fleet.services.supervision import control_socket

registry = CollectorRegistry(auto_describe=False)

TIMEOUT_S = 2


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    expected = f"Bearer {settings.FLEET_CREDENTIALS.metrics_token}"
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected.encode()):
        return HttpResponse("A valid bearer token is required.\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    registrations.load()
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def services() -> list[dict[str, Any]]:
    """Return the supervisor's status of each service on this host; empty if no supervisor answers."""
    request = {"do": "status", "measure": False}  # its last measurement of memory is recent enough
    try:
        return list(control_socket.send_request(settings.FLEET_HOME, request, seconds=TIMEOUT_S)["services"])
    except errors.FleetError:
        return []


class ServicesCollector(Collector):
    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("fleet_service_up", "1 if the service is healthy, else 0.", labels=["service"])
        response = GaugeMetricFamily(
            "fleet_service_response_seconds", "Response time of the service's last probe.", labels=["service"]
        )
        memory = GaugeMetricFamily(
            "fleet_service_memory_bytes", "Memory of the service and its descendants.", labels=["service"]
        )
        for service in services():
            name = [service["name"]]
            up.add_metric(name, service["healthy"])
            if service["response_ms"] is not None:
                response.add_metric(name, service["response_ms"] / 1000)
            if service["memory_bytes"] is not None:
                memory.add_metric(name, service["memory_bytes"])
        yield from (up, response, memory)


registry.register(ServicesCollector())
