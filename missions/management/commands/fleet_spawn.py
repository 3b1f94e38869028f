"""`manage.py fleet_spawn TYPE "TASK"`: start an agent, and launch a mission of one sortie for its type."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from fleet.management.operator import OperatorCommand
from missions.management import completion
from missions.management.agents import orders


class Command(OperatorCommand):
    help = "Start an agent and give it a task: a mission of one sortie, watched until it ends."

    def add_arguments(self, parser: ArgumentParser) -> None:
        agent_type = parser.add_argument("type", metavar="TYPE", help="an agent type that takes prompts")
        completion.complete(agent_type, by=completion.types)
        parser.add_argument("task", metavar="TASK", help="the prompt")
        orders.add_spawn_options(parser)

    def act(self, **options: Any) -> int:
        return orders.spawn(self, {**options, "count": 1})
