"""`/metrics` for Prometheus, behind the token `metrics_token` of the credentials: `Authorization: Bearer …`.

Everything is read from the database at each scrape, so the figures are exact whatever the number of processes.
Collectors are registered by the apps above (`metrics.py` in each, loaded when Django is ready).
"""

from __future__ import annotations

import hmac

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

registry = CollectorRegistry(auto_describe=False)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    wanted = f"Bearer {settings.FLEET_CREDENTIALS.metrics_token}"
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), wanted.encode()):
        return HttpResponse("A bearer token is needed.\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
