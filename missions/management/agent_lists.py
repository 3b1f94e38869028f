"""`fleet_agents list|status|health|types`: who is there, what each does, and whether it gets on."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Q

from agents import queries
from agents.models import Agent, AgentType, Node
from fleet import errors
from fleet.console import lines, repeating
from fleet.management.operator import OperatorCommand
from missions.dispatch import stalled
from missions.models import Sortie

UNWELL = 1


def add_arguments(actions: Any) -> None:
    listing = actions.add_parser("list", help="the live agents and what they fly")
    listing.add_argument("--all", action="store_true", help="those that have ended too")
    status = actions.add_parser("status", help="how many there are and where; all about one, where it is named")
    status.add_argument("agent", nargs="?", help="its id (agt_…) or its name (backend-1)")
    health = actions.add_parser("health", help="whether each agent gets on; exit code 1 where one does not")
    for one in (listing, health):
        narrowed(one)
    types = actions.add_parser("types", help="the agent types")
    for one in (listing, status, health, types):
        one.add_argument("--json", action="store_true", help="one JSON document on standard output")
        one.add_argument("--watch", **repeating.ARGUMENT)


def narrowed(parser: ArgumentParser) -> None:
    """The options that choose among agents."""
    parser.add_argument("--type", metavar="TYPE", help="only agents of this type")
    parser.add_argument("--node", metavar="NODE", help="only agents on this node")


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    show = {"list": _list, "status": _status, "health": _health, "types": _types}[options["action"]]
    return command.again(lambda: show(command, options), every_s=options["watch"])


def chosen(options: dict[str, Any], *, everything: bool = False) -> list[Agent]:
    """The agents that `--type` and `--node` leave."""
    if options["type"] and not AgentType.objects.filter(name=options["type"]).exists():
        raise errors.NotFound(
            f"There is no agent type {options['type']!r}.", hint="See `manage.py fleet_agents types`."
        )
    if options["node"] and not Node.objects.filter(name=options["node"]).exists():
        raise errors.NotFound(f"There is no node {options['node']!r}.", hint="See `manage.py fleet_agents status`.")
    found = queries.live()
    if everything:
        found = Agent.objects.select_related("type", "node").order_by("type", "id")
    if options["type"]:
        found = found.filter(type=options["type"])
    if options["node"]:
        found = found.filter(node__name=options["node"])
    return list(found)


def rows(agents: Iterable[Agent], flown: Mapping[UUID, list[str]] | None = None) -> list[dict[str, Any]]:
    """Agents as programs read them, with the keys of what each flies."""
    now = queries.clock()
    return [_row(one, (flown or {}).get(one.id, ()), now=now) for one in agents]


def _row(agent: Agent, sorties: Iterable[str], *, now: datetime) -> dict[str, Any]:
    """`{id, name, type, node, pid, state, sorties, …}`: an agent as programs read it (docs/commands.md)."""
    return {
        "id": agent.ref,
        "name": agent.name,
        "type": agent.type_id,
        "node": agent.node.name if agent.node else None,
        "pid": agent.pid or 0,
        "state": agent.state,
        "order": agent.order,
        "concurrency": agent.concurrency,
        "sorties": list(sorties),
        "flown": agent.flown,
        "crashes": agent.crashes,
        "heard_s_ago": round((now - agent.heartbeat_at).total_seconds(), 1),
        "age_s": round(((agent.ended_at or now) - agent.spawned_at).total_seconds(), 1),
        "reason": agent.reason,
    }


def flown_by(agents: Iterable[Agent]) -> dict[UUID, list[str]]:
    """The keys of what each agent flies now."""
    flown: dict[UUID, list[str]] = {}
    running = Sortie.objects.filter(state="running", agent__in=[agent.id for agent in agents])
    for agent, key in running.values_list("agent", "key"):
        if agent is not None:
            flown.setdefault(agent, []).append(key)
    return flown


def _list(command: OperatorCommand, options: dict[str, Any]) -> int:
    agents = chosen(options, everything=options["all"])
    flown = flown_by(agents)
    if options["json"]:
        command.show(rows(agents, flown), one_line=options["watch"] is not None)
        return 0
    width = lines.columns(command.stdout)
    for agent in agents:
        does = lines.one(", ".join(flown.get(agent.id, [])) or agent.reason)
        name = lines.padded(agent.name, 24, width=width)
        command.stdout.write(
            lines.fitted(f"{agent.ref}  {name} {agent.pid or '-':>8} {agent.state:<10} {does}".rstrip(), width=width)
        )
    if not agents:
        command.say("No agents. Start the fleet: manage.py fleet_up")
    return 0


def _status(command: OperatorCommand, options: dict[str, Any]) -> int:
    return _one(command, options) if options["agent"] else _all(command, options)


def _one(command: OperatorCommand, options: dict[str, Any]) -> int:
    agent = queries.find(options["agent"])
    (told,) = rows([agent], flown_by([agent]))
    told["health"] = _verdicts([agent])[agent.id]
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
    nodes = [
        {
            "name": node.name,
            "up": node.up,
            "cordoned": node.cordoned,
            "agents": sum(agent.node_id == node.id for agent in agents),
            "places": node.places,
            "cpus": node.cpus,
            "load": round(node.load, 2),
            "memory_bytes": node.memory_bytes,
            "memory_free_bytes": node.memory_free_bytes,
        }
        for node in Node.objects.all()
    ]
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
    for one in nodes:
        stands = ("up" if one["up"] else "down") + (", cordoned" if one["cordoned"] else "")
        command.stdout.write(
            f"{one['name']:<20} {stands:<5} {one['agents']} of {one['places']} places taken,"
            f" load {one['load']} on {one['cpus']} processors, {int(str(one['memory_free_bytes'])) / 1e9:.1f} GB free"
        )
    for one in types:
        command.stdout.write(
            f"{one['type']:<20} agents {one['agents']}, {one['flying']} of {one['slots']} slots in use"
        )
    if not nodes:
        command.say("No nodes. Start the fleet: manage.py fleet_up")
    return 0


def _health(command: OperatorCommand, options: dict[str, Any]) -> int:
    agents = chosen(options)
    verdicts = _verdicts(agents)
    missing = [] if options["node"] else _without_agents(options["type"])
    well = not missing and all(verdict in {"well", "starting", "draining"} for verdict in verdicts.values())
    if options["json"]:
        told = [
            {"id": agent.ref, "name": agent.name, "state": agent.state, "health": verdicts[agent.id]}
            for agent in agents
        ]
        command.show({"well": well, "agents": told, "missing": missing}, one_line=options["watch"] is not None)
    else:
        for agent in agents:
            command.stdout.write(f"{agent.ref}  {agent.name:<24} {agent.state:<10} {verdicts[agent.id]}")
        for name in missing:
            command.stdout.write(f"{name} has no agent. Start one: manage.py fleet_agents spawn {name}")
    return 0 if well else UNWELL


def _without_agents(only: str | None) -> list[str]:
    """Enabled types that nodes should keep agents of, and that have none."""
    types = AgentType.objects.filter(enabled=True, agents__gt=0, outside=False, **({"name": only} if only else {}))
    counted = types.annotate(live=Count("agent", filter=Q(agent__state__in=Agent.LIVE)))
    return [one.name for one in counted if not one.live]


def _verdicts(agents: list[Agent]) -> dict[UUID, str]:
    idle_on_work = {agent.id for agent in stalled()}
    verdicts, now = {}, queries.clock()
    for agent in agents:
        silent_s = (now - agent.heartbeat_at).total_seconds()
        if agent.state not in Agent.LIVE:
            verdict = agent.state
        elif agent.state == Agent.State.SPAWNING:
            verdict = "starting"
        elif silent_s > 2 * settings.FLEET_HEARTBEAT_S + 1:
            verdict = f"silent for {silent_s:.0f} s"
        elif agent.state == Agent.State.DRAINING:
            verdict = "draining"
        elif agent.id in idle_on_work:
            verdict = "alive, but takes nothing while its queue waits"
        else:
            verdict = "well"
        verdicts[agent.id] = verdict
    return verdicts


def _types(command: OperatorCommand, options: dict[str, Any]) -> int:
    counted = AgentType.objects.annotate(live=Count("agent", filter=Q(agent__state__in=Agent.LIVE)))
    rows = [
        {
            "name": one.name,
            "description": one.description,
            "queue": one.queue,
            "enabled": one.enabled,
            "agents": one.agents,
            "most_agents": one.most_agents,
            "concurrency": one.concurrency,
            "takes_prompt": one.takes_prompts,
            "live": one.live,
        }
        for one in counted.order_by("name")
    ]
    if options["json"]:
        command.show(rows, one_line=options["watch"] is not None)
        return 0
    for one in rows:
        text = f"{one['name']:<14} {one['live']} live, {one['concurrency']} at once each  {one['description']}"
        command.stdout.write(lines.fitted(text.rstrip(), width=lines.columns(command.stdout)))
    return 0
