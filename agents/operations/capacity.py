"""Computes how many agents Postgres has connections for.

All parts of the fleet together stay below what Postgres allows, so that commands always get a connection.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db import connection

from agents.models import Agent, Node
from fleet.postgres import pool, statements

UNBOUNDED = 1_000_000
NODE_CONNECTIONS = 2  # its own, and the one that listens for orders
CONTROL_CONNECTIONS = 2  # for two control loops


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The connections of Postgres and who may use them. `str()` of it gives the figures for an error message."""

    max_connections: int
    reserved: int  # by Postgres itself
    elsewhere: int  # in use in other databases
    bound: int | None  # the limit of the role or the database, if any
    fleet: int  # for the site, nodes and control loops
    spare: int  # for commands
    agents: int  # live agents of nodes
    pooled: bool = False  # the fleet's connections end at a pooler, whose own limits apply

    @property
    def room(self) -> int:
        """How many more agents can be started; negative if there are too many already."""
        if self.pooled:
            return UNBOUNDED
        usable = self.max_connections - self.reserved - self.elsewhere
        if self.bound is not None:
            usable = min(usable, self.bound)
        return (usable - self.fleet - self.spare) // pool.CONNECTIONS_PER_AGENT - self.agents

    def __str__(self) -> str:
        bound = "" if self.bound is None else f", at most {self.bound} of them for this role and database"
        return (
            f"Postgres allows {self.max_connections} connections, of which it reserves {self.reserved} and other"
            f" databases use {self.elsewhere}{bound}; the site, nodes and control loops may use {self.fleet},"
            f" {self.spare} are reserved for commands, and each agent needs {pool.CONNECTIONS_PER_AGENT}: {self.agents} are live,"
            f" with room for {max(self.room, 0)} more"
        )


def capacity() -> Capacity:
    """The current capacity."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("agents", "connections"))
        max_connections, reserved, elsewhere, bound = cursor.fetchone()
    nodes = Node.objects.filter(up=True).count()
    return Capacity(
        max_connections=max_connections,
        reserved=reserved,
        elsewhere=elsewhere,
        bound=bound,
        fleet=pool.site_connections() + max(nodes, 1) * NODE_CONNECTIONS + CONTROL_CONNECTIONS,
        spare=settings.FLEET_SPARE_CONNECTIONS,
        agents=Agent.objects.filter(state__in=Agent.LIVE, node__isnull=False).count(),
        pooled=settings.FLEET_ENDPOINTS.postgres.pooled,
    )
