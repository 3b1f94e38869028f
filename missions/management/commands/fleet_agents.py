"""`manage.py fleet_agents list|types`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db.models import Count, Q

from agents.models import Agent, AgentType
from fleet.console import lines, repeating
from fleet.management.operator import OperatorCommand
from missions.models import Sortie


class Command(OperatorCommand):
    help = "Show the agents of the fleet, and the types that they can have."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="the live agents and what they fly")
        listing.add_argument("--all", action="store_true", help="those that have ended too")
        types = actions.add_parser("types", help="the agent types")
        for one in (listing, types):
            one.add_argument("--json", action="store_true", help="one JSON document on standard output")
            one.add_argument("--watch", **repeating.ARGUMENT)

    def act(self, **options: Any) -> int:
        return self.again(lambda: self._tell(options), every_s=options["watch"])

    def _tell(self, options: dict[str, Any]) -> int:
        width = lines.columns(self.stdout)
        rows = _agents(everything=options["all"]) if options["action"] == "list" else _types()
        if options["json"]:
            self.show(rows, one_line=options["watch"] is not None)
            return 0
        for row in rows:
            if options["action"] == "list":
                flies = lines.one(", ".join(row["sorties"]) or row["reason"])
                text = f"{row['id']}  {row['type']:<14} {row['node'] or '-':<16} {row['pid']:>8} {row['state']:<10} {flies}"
            else:
                text = f"{row['name']:<14} {row['live']} live, {row['concurrency']} at once each  {row['description']}"
            self.stdout.write(lines.fitted(text.rstrip(), width=width))
        if not rows:
            self.say("No agents. Start the fleet: manage.py fleet_up")
        return 0


def _agents(*, everything: bool) -> list[dict[str, Any]]:
    found = Agent.objects.select_related("node").order_by("type", "id")
    if not everything:
        found = found.filter(state__in=Agent.LIVE)
    agents = list(found)
    flown: dict[Any, list[str]] = {}
    running = Sortie.objects.filter(state="running", agent__in=[agent.id for agent in agents])
    for agent, key in running.values_list("agent", "key"):
        flown.setdefault(agent, []).append(key)
    return [
        {
            "id": agent.ref,
            "type": agent.type_id,
            "node": agent.node.name if agent.node else None,
            "pid": agent.pid or 0,
            "state": agent.state,
            "sorties": flown.get(agent.id, []),
            "reason": agent.reason,
        }
        for agent in agents
    ]


def _types() -> list[dict[str, Any]]:
    counted = AgentType.objects.annotate(live=Count("agent", filter=Q(agent__state__in=Agent.LIVE)))
    return [
        {
            "name": one.name,
            "description": one.description,
            "enabled": one.enabled,
            "concurrency": one.concurrency,
            "takes_prompt": bool(one.prompt_argv),
            "live": one.live,
        }
        for one in counted.order_by("name")
    ]
