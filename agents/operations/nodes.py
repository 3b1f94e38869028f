"""A node joins the fleet, says that it is there, and leaves."""

from __future__ import annotations

from django.db.models.functions import Now

from agents.models import Agent, Node
from agents.operations import lifecycle
from fleet.events.models import Event


def join(*, name: str, pid: int, start_time: float) -> Node:
    """The row of this host's supervisor. What an earlier one left on it as alive is lost."""
    node, _ = Node.objects.update_or_create(
        name=name, defaults={"pid": pid, "start_time": start_time, "up": True, "heartbeat_at": Now()}
    )
    Event.objects.create(kind="node.up", subject=node.id, data={"name": name})
    left = list(Agent.objects.filter(node=node, state__in=Agent.LIVE).values_list("id", flat=True))
    if left:
        lifecycle.end(agents=left, state=Agent.State.LOST, reason="Its node was restarted.")
    return node


def beat(*, node: Node) -> None:
    Node.objects.filter(id=node.id).update(heartbeat_at=Now(), up=True)


def leave(*, node: Node) -> None:
    Node.objects.filter(id=node.id).update(up=False)
    Event.objects.create(kind="node.down", subject=node.id, data={"name": node.name})
