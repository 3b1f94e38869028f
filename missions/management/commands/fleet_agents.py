"""`manage.py fleet_agents list|status|health|types|spawn|drain|terminate|…`: the agents of all nodes."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from fleet.management.operator import OperatorCommand
from missions.management.agents import lists, logs, orders, resources, scaling, types

ACTIONS = {
    "list": lists,
    "status": lists,
    "health": lists,
    "types": lists,
    "type": types,
    "resources": resources,
    "logs": logs,
    "spawn": orders,
    "drain": orders,
    "terminate": orders,
    "cordon": orders,
    "uncordon": orders,
    "autoscale": scaling,
}


class Command(OperatorCommand):
    help = "List, start and end the agents of the fleet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for module in dict.fromkeys(ACTIONS.values()):
            module.add_arguments(actions)

    def act(self, **options: Any) -> int:
        code: int = ACTIONS[options["action"]].act(self, options)
        return code
