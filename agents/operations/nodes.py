"""A node joins the fleet, says that it is there and how loaded it is, and leaves."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import psutil
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from agents import processes
from agents.models import Agent, Node
from fleet import errors
from fleet.events.models import Event


def boot_id() -> str:
    """What tells this run of this host from every other: a pid and its start time mean something only within it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def join(*, name: str, pid: int, start_time: float) -> Node:
    """The row of this host's supervisor. Conflict where another live one has that name.

    Agents that an earlier one left are the caller's to end: see `left_behind`.
    """
    with transaction.atomic():
        earlier = Node.objects.select_for_update().filter(name=name).first()
        if earlier is not None and earlier.up and earlier.pid != pid and _lives(earlier):
            raise errors.Conflict(
                f"A node called {name} is up already (pid {earlier.pid}).",
                hint="Give this one another name: fleet_node --name, or FLEET_NODE.",
            )
        node, _ = Node.objects.update_or_create(
            name=name,
            defaults={
                "boot": boot_id(),
                "pid": pid,
                "start_time": start_time,
                "up": True,
                "places": settings.FLEET_NODE_PLACES,
                "cpus": os.cpu_count() or 1,
                "joined_at": Now(),
                **_load(),
            },
        )
        Event.objects.create(kind="node.up", subject=node.id, data={"name": name})
    node.refresh_from_db()
    return node


def left_behind(*, node: Node) -> list[Agent]:
    """Live agents of the node's name that an earlier supervisor started."""
    return list(Agent.objects.filter(node=node, state__in=Agent.LIVE).exclude(pid=None).order_by("id"))


def beat(*, node: Node) -> None:
    """Say that it is up, and how loaded its host is."""
    Node.objects.filter(id=node.id).update(up=True, **_load())


def leave(*, node: Node) -> None:
    with transaction.atomic():
        if Node.objects.filter(id=node.id, pid=node.pid, up=True).update(up=False):
            Event.objects.create(kind="node.down", subject=node.id, data={"name": node.name})


def expire(*, after_s: float) -> list[str]:
    """Call nodes down that were not heard of for so long; returns their names."""
    gone = []
    with transaction.atomic():
        silent = Node.objects.select_for_update(skip_locked=True).filter(
            up=True, heartbeat_at__lt=Now() - timedelta(seconds=after_s)
        )
        for node in silent.order_by("id"):
            Node.objects.filter(id=node.id).update(up=False)
            Event.objects.create(kind="node.lost", subject=node.id, data={"name": node.name})
            gone.append(node.name)
    return gone


def _load() -> dict[str, object]:
    memory = psutil.virtual_memory()
    return {
        "heartbeat_at": Now(),
        "load": os.getloadavg()[0],
        "memory_bytes": memory.total,
        "memory_free_bytes": memory.available,
    }


def _lives(node: Node) -> bool:
    if node.boot == boot_id():
        return processes.is_alive(pid=node.pid, start_time=node.start_time)
    return timezone.now() - node.heartbeat_at < timedelta(seconds=settings.FLEET_LEASE_S)
