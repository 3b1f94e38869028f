"""How many agents Postgres has connections for: what all parts of the fleet may take together stays below what it allows, so
that commands always get one."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db import connection

from agents.models import Agent, Node
from fleet.postgres import pool, statements

OF_NODE = 2  # its own, and the one that hears orders
OF_CONTROL = 2  # one each; a second control loop may run


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The figures that a refusal names, in connections; and agents."""

    most: int  # max_connections
    reserved: int  # by Postgres itself
    elsewhere: int  # in use in other databases
    bound: int | None  # of the role or the database, where they have one
    fleet: int  # for the site, nodes and control loops
    spare: int  # for commands
    agents: int  # that live

    @property
    def room(self) -> int:
        """Agents that may be started beside those that live; negative where there are too many."""
        usable = self.most - self.reserved - self.elsewhere
        if self.bound is not None:
            usable = min(usable, self.bound)
        return (usable - self.fleet - self.spare) // pool.OF_AGENT - self.agents

    def __str__(self) -> str:
        bound = "" if self.bound is None else f", at most {self.bound} of them for this role and database"
        return (
            f"Postgres takes {self.most} connections, of which {self.reserved} are reserved and {self.elsewhere} in use"
            f" elsewhere{bound}; the site, nodes and control loops may take {self.fleet}, {self.spare} are kept for"
            f" commands, and each agent takes {pool.OF_AGENT}: {self.agents} live, and {max(self.room, 0)} more have room"
        )


def capacity() -> Capacity:
    """As it is now."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("agents", "connections"))
        most, reserved, elsewhere, bound = cursor.fetchone()
    nodes = Node.objects.filter(up=True).count()
    return Capacity(
        most=most,
        reserved=reserved,
        elsewhere=elsewhere,
        bound=bound,
        fleet=pool.of_site() + max(nodes, 1) * OF_NODE + OF_CONTROL,
        spare=settings.FLEET_SPARE_CONNECTIONS,
        agents=Agent.objects.filter(state__in=Agent.LIVE, node__isnull=False).count(),
    )
