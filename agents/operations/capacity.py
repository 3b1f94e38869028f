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
    other_databases: int  # in use there
    role_limit: int | None  # the limit of the role or the database, if any
    fleet: int  # for the site, nodes and control loops
    spare: int  # for commands
    agents: int  # live agents of nodes
    pooled: bool = False  # the fleet's connections end at a pooler, whose own limits apply

    @property
    def room(self) -> int:
        """How many more agents can be started; negative if there are too many already."""
        if self.pooled:
            return UNBOUNDED
        usable = self.max_connections - self.reserved - self.other_databases
        if self.role_limit is not None:
            usable = min(usable, self.role_limit)
        return (usable - self.fleet - self.spare) // pool.CONNECTIONS_PER_AGENT - self.agents

    def __str__(self) -> str:
        limit = "" if self.role_limit is None else f", at most {self.role_limit} of them for this role and database"
        return (
            f"Postgres allows {self.max_connections} connections, of which it reserves {self.reserved} and other"
            f" databases use {self.other_databases}{limit}; the site, nodes and control loops may use {self.fleet},"
            f" {self.spare} are reserved for commands, and each agent needs {pool.CONNECTIONS_PER_AGENT}: {self.agents} are live,"
            f" with room for {max(self.room, 0)} more"
        )


def capacity() -> Capacity:
    """The current capacity."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("agents", "connections"))
        max_connections, reserved, other_databases, role_limit = cursor.fetchone()
    nodes = Node.objects.filter(up=True).count()
    return Capacity(
        max_connections=max_connections,
        reserved=reserved,
        other_databases=other_databases,
        role_limit=role_limit,
        fleet=pool.site_connections() + max(nodes, 1) * NODE_CONNECTIONS + CONTROL_CONNECTIONS,
        spare=settings.FLEET_SPARE_CONNECTIONS,
        agents=Agent.objects.filter(state__in=Agent.LIVE, node__isnull=False).count(),
        pooled=settings.FLEET_ENDPOINTS.postgres.pooled,
    )
