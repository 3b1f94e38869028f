"""`fleet_agents list|status|health|types`: who is there, what each does, and whether it gets on."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from agents import queries
from agents.models import Agent, AgentType, Node
from fleet import errors, invocation
from fleet.console import lines, repeating
from fleet.management.operator import OperatorCommand
from fleet.services.outages import start_hint
from missions.management import completing
from missions.queries import roster

UNWELL = 1


def add_arguments(actions: Any) -> None:
    listing = actions.add_parser("list", help="list the live agents and their sorties")
    listing.add_argument("--all", action="store_true", help="also agents that have ended")
    status = actions.add_parser("status", help="show nodes and slots in use, or all about one agent")
    named = status.add_argument("agent", nargs="?", help="its id (agt_…) or its name (backend-1)")
    completing.completed(named, by=completing.agents)
    health = actions.add_parser("health", help="check each agent; exit code 1 if one is unhealthy")
    for parser in (listing, health):
        narrowed(parser)
    types = actions.add_parser("types", help="list the agent types, and which of them take prompts")
    for parser in (listing, status, health, types):
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.add_argument("--watch", **repeating.ARGUMENT)


def narrowed(parser: ArgumentParser) -> None:
    """The options that choose among agents."""
    of_type = parser.add_argument("--type", metavar="TYPE", help="only agents of this type")
    completing.completed(of_type, by=completing.types)
    on_node = parser.add_argument("--node", metavar="NODE", help="only agents on this node")
    completing.completed(on_node, by=completing.nodes)


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    show = {"list": _list, "status": _status, "health": _health, "types": _types}[options["action"]]
    return command.again(lambda: show(command, options), every_s=options["watch"])


def chosen(options: dict[str, Any], *, everything: bool = False) -> list[Agent]:
    """The agents that `--type` and `--node` leave."""
    if options["type"] and not AgentType.objects.filter(name=options["type"]).exists():
        raise errors.NotFound(
            f"There is no agent type {options['type']!r}.", hint=f"See: {invocation.command('fleet_agents', 'types')}"
        )
    if options["node"] and not Node.objects.filter(name=options["node"]).exists():
        raise errors.NotFound(
            f"There is no node {options['node']!r}.", hint=f"See: {invocation.command('fleet_agents', 'status')}"
        )
    found = queries.live()
    if everything:
        found = Agent.objects.select_related("type", "node").order_by("type", "id")
    if options["type"]:
        found = found.filter(type=options["type"])
    if options["node"]:
        found = found.filter(node__name=options["node"])
    return list(found)


def _list(command: OperatorCommand, options: dict[str, Any]) -> int:
    agents = chosen(options, everything=options["all"])
    flown = roster.flown_by(agents)
    if options["json"]:
        command.show(roster.rows(agents, flown), one_line=options["watch"] is not None)
        return 0
    width = lines.columns(command.stdout)
    for agent in agents:
        does = lines.one(", ".join(flown.get(agent.id, [])) or agent.reason)
        name = lines.padded(agent.name, 24, width=width)
        command.stdout.write(
            lines.fitted(f"{agent.ref}  {name} {agent.pid or '-':>8} {agent.state:<10} {does}".rstrip(), width=width)
        )
    if not agents:
        command.say(f"There are no agents. {start_hint()}")
    return 0


def _status(command: OperatorCommand, options: dict[str, Any]) -> int:
    return _one(command, options) if options["agent"] else _all(command, options)


def _one(command: OperatorCommand, options: dict[str, Any]) -> int:
    agent = queries.find(options["agent"])
    (told,) = roster.rows([agent], roster.flown_by([agent]))
    told["health"] = roster.verdicts([agent])[agent.id]
    if options["json"]:
        command.show(told, one_line=options["watch"] is not None)
        return 0
    for name, value in told.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        if text:
            command.stdout.write(f"{name.replace('_', ' '):<12} {lines.one(text)}")
    return 0


def _all(command: OperatorCommand, options: dict[str, Any]) -> int:
    agents = list(queries.live())
    nodes = roster.nodes()
    types = [
        {
            "type": kind.name,
            "agents": len(mine := [agent for agent in agents if agent.type_id == kind.name]),
            "slots": sum(agent.concurrency for agent in mine),
            "flying": sum(agent.flying for agent in mine),
        }
        for kind in AgentType.objects.all()
    ]
    if options["json"]:
        command.show({"nodes": nodes, "types": types}, one_line=options["watch"] is not None)
        return 0
    stand = [("up" if one["up"] else "down") + (", cordoned" if one["cordoned"] else "") for one in nodes]
    wide = max(map(len, stand), default=0)
    for one, stands in zip(nodes, stand, strict=True):
        command.stdout.write(
            f"{one['name']:<20} {stands:<{wide}}  {one['agents']} of {one['places']} places taken,"
            f" load {one['load']} on {one['cpus']} processors, {int(str(one['memory_free_bytes'])) / 1e9:.1f} GB free"
        )
    for one in types:
        command.stdout.write(
            f"{one['type']:<20} agents {one['agents']}, {one['flying']} of {one['slots']} slots in use"
        )
    if not nodes:
        command.say(f"There are no nodes. {start_hint()}")
    return 0


def _health(command: OperatorCommand, options: dict[str, Any]) -> int:
    told = roster.health(chosen(options), types=[] if options["node"] else [options["type"]])
    if options["json"]:
        command.show(told, one_line=options["watch"] is not None)
    else:
        for one in told["agents"]:
            command.stdout.write(f"{one['id']}  {one['name']:<24} {one['state']:<10} {one['health']}")
        if told["missing"]:
            command.stdout.write(f"Without an agent: {', '.join(told['missing'])}. {told['remedy']}")
    return 0 if told["well"] else UNWELL


def _types(command: OperatorCommand, options: dict[str, Any]) -> int:
    rows = roster.types()
    if options["json"]:
        command.show(rows, one_line=options["watch"] is not None)
        return 0
    for one in rows:
        state = "" if one["enabled"] else "disabled, "
        prompts = "takes prompts" if one["takes_prompt"] else "no prompts"
        figures = f"{one['live']} live, {one['concurrency']} at once each, {state}{prompts}"
        text = f"{one['name']:<14} {figures:<40} {one['description']}"
        command.stdout.write(lines.fitted(text.rstrip(), width=lines.columns(command.stdout)))
    return 0
