"""`manage.py fleet_spawn TYPE "TASK"`: an agent, and a mission of one sortie for its type."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from fleet.management.operator import OperatorCommand
from missions.management import agent_orders, completing


class Command(OperatorCommand):
    help = "Start an agent and give it a task: a mission of one sortie, watched until it ends."

    def add_arguments(self, parser: ArgumentParser) -> None:
        named = parser.add_argument("type", metavar="TYPE", help="an agent type that takes prompts")
        completing.completed(named, by=completing.types)
        parser.add_argument("task", metavar="TASK", help="what to do, in words")
        agent_orders.spawn_options(parser)

    def act(self, **options: Any) -> int:
        return agent_orders.spawn(self, {**options, "count": 1})
