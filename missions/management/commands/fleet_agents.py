"""`manage.py fleet_agents list|status|health|types|spawn|drain|terminate|…`: the agents of all nodes."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from fleet.management.operator import OperatorCommand
from missions.management import agent_lists, agent_logs, agent_orders, agent_resources, agent_scaling, agent_types

ACTIONS = {
    "list": agent_lists,
    "status": agent_lists,
    "health": agent_lists,
    "types": agent_lists,
    "type": agent_types,
    "resources": agent_resources,
    "logs": agent_logs,
    "spawn": agent_orders,
    "drain": agent_orders,
    "terminate": agent_orders,
    "cordon": agent_orders,
    "uncordon": agent_orders,
    "autoscale": agent_scaling,
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
