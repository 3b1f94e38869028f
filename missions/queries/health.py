"""The readiness check of the queues (`/readyz`): no sortie may wait longer than FLEET_ALERT_QUEUE_S."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Min
from django.db.models.functions import Extract, Now

from fleet import humanise
from fleet.console import invocation
from fleet.monitoring import health
from missions.models import Sortie
from missions.states import SortieState


def queue() -> str:
    """Why the check fails; empty if it passes."""
    oldest = Sortie.objects.filter(state=SortieState.QUEUED).aggregate(waited=Extract(Now() - Min("ready_at"), "epoch"))
    waited_s = float(oldest["waited"] or 0)
    if not 0 < settings.FLEET_ALERT_QUEUE_S < waited_s:
        return ""
    command = invocation.command("fleet_agents", "list")
    return f"A sortie has waited {humanise.duration(waited_s)} for an agent. See: {command}"


health.register("queue", error="The queues cannot be read.", check=queue)
