"""`fleet_agents list|status|health|types`: the agents, what they do, and whether they are healthy."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Collection
from typing import Any

from agents import queries
from agents.models import Agent, AgentType, Node
from fleet import errors
from fleet.console import invocation, lines, repeating
from fleet.management.operator import OperatorCommand
from fleet.services.outages import start_hint
from missions.management import completion
from missions.queries import roster

UNHEALTHY = 1


def add_arguments(actions: Any) -> None:
    list_parser = actions.add_parser("list", help="list the live agents and their sorties")
    list_parser.add_argument("--all", action="store_true", help="include agents that have ended")
    status = actions.add_parser("status", help="show nodes and slots in use, or everything about one agent")
    agent = status.add_argument("agent", nargs="?", help="its id (agt_…) or its name (backend-1)")
    completion.complete(agent, by=completion.agents)
    health = actions.add_parser("health", help="check each agent; exit code 1 if one is unhealthy")
    for parser in (list_parser, health):
        add_filters(parser)
    types = actions.add_parser("types", help="list the agent types, and which of them take prompts")
    for parser in (list_parser, status, health, types):
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.add_argument("--watch", **repeating.ARGUMENT)


def add_filters(parser: ArgumentParser) -> None:
    """Add `--type` and `--node`."""
    type_option = parser.add_argument("--type", metavar="TYPE", help="only agents of this type")
    completion.complete(type_option, by=completion.types)
    node_option = parser.add_argument("--node", metavar="NODE", help="only agents on this node")
    completion.complete(node_option, by=completion.nodes)


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    show = {"list": _list, "status": _status, "health": _health, "types": _types}[options["action"]]
    return command.show_repeatedly(lambda: show(command, options), every_s=options["watch"])


def select(options: dict[str, Any], *, ended: bool = False) -> list[Agent]:
    """The live agents that match `--type` and `--node`; with `ended`, those that have ended too."""
    if options["type"] and not AgentType.objects.filter(name=options["type"]).exists():
        raise errors.NotFound(
            f"There is no agent type {options['type']!r}.", hint=f"See: {invocation.command('fleet_agents', 'types')}"
        )
    if options["node"] and not Node.objects.filter(name=options["node"]).exists():
        raise errors.NotFound(
            f"There is no node {options['node']!r}.", hint=f"See: {invocation.command('fleet_agents', 'status')}"
        )
    agents = Agent.objects.select_related("type", "node").order_by("type", "id") if ended else queries.live()
    if options["type"]:
        agents = agents.filter(type=options["type"])
    if options["node"]:
        agents = agents.filter(node__name=options["node"])
    return list(agents)


def _list(command: OperatorCommand, options: dict[str, Any]) -> int:
    agents = select(options, ended=options["all"])
    sorties = roster.running_by(agents)
    if options["json"]:
        command.show(roster.rows(agents, sorties), one_line=options["watch"] is not None)
        return 0
    if not agents:
        command.say(f"There are no agents. {start_hint()}")
        return 0
    rows = [
        (agent.ref, agent.name, agent.pid or "–", agent.state, ", ".join(sorties.get(agent.id, [])) or agent.reason)
        for agent in agents
    ]
    header = ("ID", "NAME", "PID", "STATE", "SORTIES OR REASON")
    for line in lines.table(header, rows, width=lines.columns(command.stdout)):
        command.stdout.write(line)
    return 0


def _status(command: OperatorCommand, options: dict[str, Any]) -> int:
    return _status_of_agent(command, options) if options["agent"] else _status_of_fleet(command, options)


def _status_of_agent(command: OperatorCommand, options: dict[str, Any]) -> int:
    agent = queries.find(options["agent"])
    (row,) = roster.rows([agent], roster.running_by([agent]))
    row["health"] = roster.health_by_agent([agent])[agent.id]
    if options["json"]:
        command.show(row, one_line=options["watch"] is not None)
        return 0
    for name, value in row.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        if text and value is not None:
            command.stdout.write(f"{name.replace('_', ' '):<12} {lines.one_line(text)}")
    return 0


def _status_of_fleet(command: OperatorCommand, options: dict[str, Any]) -> int:
    live_agents = list(queries.live())
    nodes = roster.nodes()
    types = []
    for agent_type in AgentType.objects.all():
        agents = [agent for agent in live_agents if agent.type_id == agent_type.name]
        types.append(
            {
                "type": agent_type.name,
                "agents": len(agents),
                "slots": sum(agent.concurrency for agent in agents),
                "running": sum(agent.running for agent in agents),
            }
        )
    if options["json"]:
        command.show({"nodes": nodes, "types": types}, one_line=options["watch"] is not None)
        return 0
    states = [("up" if node["up"] else "down") + (", cordoned" if node["cordoned"] else "") for node in nodes]
    state_width = max(map(len, states), default=0)
    for node, state in zip(nodes, states, strict=True):
        serves = f", serves only {', '.join(node['types'])}" if node["types"] else ""
        command.stdout.write(
            f"{node['name']:<20} {state:<{state_width}}  {node['agents']} of {node['max_agents']} agents,"
            f" load {node['load']} on {node['cpus']} CPUs, {node['memory_free_bytes'] / 1e9:.1f} GB free{serves}"
        )
    for row in types:
        command.stdout.write(
            f"{row['type']:<20} agents {row['agents']}, {row['running']} of {row['slots']} slots in use"
        )
    if not nodes:
        command.say(f"There are no nodes. {start_hint()}")
    return 0


def _health(command: OperatorCommand, options: dict[str, Any]) -> int:
    types: Collection[str] | None = None
    if options["node"]:
        types = ()  # the question is about the agents of one node
    elif options["type"]:
        types = [options["type"]]
    health = roster.health(select(options), types=types)
    if options["json"]:
        command.show(health, one_line=options["watch"] is not None)
    else:
        rows = [[agent[name] for name in ("id", "name", "state", "health")] for agent in health["agents"]]
        if rows:
            for line in lines.table(("ID", "NAME", "STATE", "HEALTH"), rows, width=lines.columns(command.stdout)):
                command.stdout.write(line)
        if health["missing"]:
            command.stdout.write(f"Types without an agent: {', '.join(health['missing'])}. {health['remedy']}")
    return 0 if health["healthy"] else UNHEALTHY


def _types(command: OperatorCommand, options: dict[str, Any]) -> int:
    rows = roster.types()
    if options["json"]:
        command.show(rows, one_line=options["watch"] is not None)
        return 0
    for row in rows:
        disabled = "" if row["enabled"] else "disabled, "
        prompts = "takes prompts" if row["takes_prompt"] else "no prompts"
        figures = f"{row['live']} live, {row['concurrency']} at once each, {disabled}{prompts}"
        text = f"{row['name']:<14} {figures:<40} {row['description']}"
        command.stdout.write(lines.fitted(text.rstrip(), width=lines.columns(command.stdout)))
    return 0
