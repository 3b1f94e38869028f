"""What `/readyz` says of the queues: work that waits longer than FLEET_ALERT_QUEUE_S has nobody who takes it."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Min
from django.db.models.functions import Extract, Now

from fleet import humanise, invocation
from fleet.monitoring import health
from missions.models import Sortie


def queue() -> str:
    oldest = Sortie.objects.filter(state="queued").aggregate(waited=Extract(Now() - Min("ready_at"), "epoch"))
    waited_s = float(oldest["waited"] or 0)
    if not 0 < settings.FLEET_ALERT_QUEUE_S < waited_s:
        return ""
    see = invocation.command("fleet_agents", "list")
    return f"A sortie has waited {humanise.duration(waited_s)} for an agent. See: {see}"


health.register("queue", fault="The queues cannot be read.", check=queue)
