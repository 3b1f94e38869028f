"""`fleet_agents spawn|drain|terminate|cordon|uncordon`: what operators order, and waiting until it is done."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from agents import operations as agents
from agents import queries
from agents.models import Agent, AgentType, Node
from fleet import errors, invocation
from fleet.console import arguments
from fleet.management.operator import OperatorCommand
from missions import operations, plan
from missions.management import agent_lists, completing, watching
from missions.models import Mission
from missions.queries import roster

LOOK_S = 0.05
FAILED, TIMED_OUT = 1, 3


def add_arguments(actions: Any) -> None:
    spawn = actions.add_parser("spawn", help="start agents of a type, and with a task, launch it for them")
    completing.completed(spawn.add_argument("type", metavar="TYPE"), by=completing.types)
    spawn.add_argument(
        "task", metavar="TASK", nargs="?", help="a prompt, launched and watched as a mission of one sortie"
    )
    spawn_options(spawn)
    spawn.add_argument("--count", type=arguments.count, default=1, help="how many (default: 1)")
    drain = actions.add_parser("drain", help="let agents finish their sorties, then end them")
    terminate = actions.add_parser("terminate", help="end agents; sorties that do not end in time are queued again")
    terminate.add_argument("--now", action="store_true", help="stop their sorties at once and queue them again")
    for parser in (drain, terminate):
        named = parser.add_argument("agents", nargs="*", metavar="ID", help="ids (agt_…) or names (backend-1)")
        completing.completed(named, by=completing.agents)
        agent_lists.narrowed(parser)
        parser.add_argument("--all", action="store_true", help="every live agent")
        parser.add_argument("--reason", default="", help="recorded with the agent")
        parser.add_argument("--no-wait", action="store_true", help="do not wait until it is done")
        parser.add_argument("--json", action="store_true", help="print one JSON document")
    cordon = actions.add_parser("cordon", help="keep new agents off nodes; their present ones stay")
    uncordon = actions.add_parser("uncordon", help="allow new agents on nodes again")
    for parser in (cordon, uncordon):
        nodes = parser.add_argument("nodes", nargs="+", metavar="NODE", help="names, as `status` shows them")
        completing.completed(nodes, by=completing.nodes)
        parser.add_argument("--reason", default="", help="recorded in the event")
        parser.add_argument("--json", action="store_true", help="print one JSON document")


def spawn_options(parser: Any) -> None:
    """What `fleet_agents spawn` and `fleet_spawn` have in common."""
    node = parser.add_argument(
        "--node", metavar="NODE", help="on this node (default: the one with the most free places)"
    )
    completing.completed(node, by=completing.nodes)
    parser.add_argument("--concurrency", type=arguments.count, help="sorties at once (default: its type's)")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it is done")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    match options["action"]:
        case "spawn":
            return spawn(command, options)
        case "cordon" | "uncordon":
            return _cordon(command, options)
        case _:
            return _end(command, options)


def _cordon(command: OperatorCommand, options: dict[str, Any]) -> int:
    on = options["action"] == "cordon"
    for name in options["nodes"]:
        changed = agents.cordon(node=name, on=on, reason=options["reason"] or "An operator ordered it.")
        already = "" if changed else " already"
        command.say(f"{name} takes {'no' if on else ''} new agents{already}.".replace("  ", " "))
    if on:
        drain = invocation.command("fleet_agents", "drain", "--node", options["nodes"][0])
        command.say(f"Its agents stay. End them: {drain}")
    if options["json"]:
        command.show([node for node in roster.nodes() if node["name"] in options["nodes"]])
    return 0


def spawn(command: OperatorCommand, options: dict[str, Any]) -> int:
    """Order agents and wait until they have reported; with a task, launch it for their type and watch it. Where there is no place
    for another one, those that there are fly the task."""
    task = None
    if options["task"] is not None:
        task = operations.task(agent_type=options["type"], task=options["task"])
    try:
        made = agents.spawn(
            type=options["type"], count=options["count"], node=options["node"], concurrency=options["concurrency"]
        )
    except agents.NoPlace as full:
        there = _staying(options["type"]).count() if task else 0
        if not there:
            raise
        fly = "The agent that there is flies" if there == 1 else f"One of the {there} agents that there are flies"
        command.say(f"{full.message} {fly} the task.")
        made = []
    spawned = made if options["no_wait"] else _reported(command, made)
    failed = [agent for agent in spawned if agent.state not in Agent.LIVE]
    mission = None if failed or task is None else _launch(task, options["task"])
    if options["json"] and (mission is None or options["no_wait"]):
        command.show({"agents": roster.rows(spawned), "mission": mission.ref if mission else None})
    if failed:
        return FAILED
    if mission is None:
        return 0
    if options["no_wait"]:
        command.say(f"Follow it: {invocation.command('fleet_mission', 'watch', mission.ref)}")
        code = 0
    else:
        code = watching.to_its_end(mission=mission, command=command, as_json=options["json"])
    if names := [agent.name for agent in spawned]:
        stays = "stays for further tasks. End it" if len(names) == 1 else "stay for further tasks. End them"
        command.say(f"{', '.join(names)} {stays}: {invocation.command('fleet_agents', 'terminate', *names)}")
    return code


def _staying(type: str) -> QuerySet[Agent]:
    """The live agents of a type that nobody has told to end."""
    return Agent.objects.filter(type=type, state__in=Agent.LIVE, order__in=("", Agent.Order.RESTART)).exclude(
        state=Agent.State.DRAINING
    )


def _reported(command: OperatorCommand, made: list[Agent]) -> list[Agent]:
    """Wait until each has reported or failed; say how it went."""
    deadline = time.monotonic() + settings.FLEET_SPAWN_S + 5
    wanted = [agent.id for agent in made]
    told: set[object] = set()
    while True:
        found = list(Agent.objects.select_related("type", "node").filter(id__in=wanted).order_by("id"))
        for agent in found:
            if agent.state != Agent.State.SPAWNING and agent.id not in told:
                told.add(agent.id)
                if agent.state in Agent.LIVE:
                    command.say(f"{agent.ref}  {agent.name} is {agent.state}, pid {agent.pid}")
                else:
                    command.say(f"{agent.ref}  {agent.name} {agent.state}: {agent.reason}")
                    command.say(f"  Its log: {invocation.command('fleet_agents', 'logs', agent.ref)}")
        if len(told) == len(wanted):
            return found
        if time.monotonic() > deadline:
            raise errors.Unavailable(
                f"{len(wanted) - len(told)} of {len(wanted)} agents have not reported yet.",
                hint=f"See the log of their node: {invocation.command('fleet_services', 'logs', 'node')}",
            )
        time.sleep(LOOK_S)


def _launch(read: tuple[plan.Plan, str], task: str) -> Mission:
    return operations.launch(
        plan=read[0], text=read[1], params={"task": task}, folder=watching.here(), by=None, executes=True, operator=True
    )


def _end(command: OperatorCommand, options: dict[str, Any]) -> int:
    named = [queries.find(reference) for reference in options["agents"]]
    if not named and not (options["all"] or options["type"] or options["node"]):
        raise errors.Invalid("No agents are named.", hint="Name them, or give --type, --node or --all.")
    found = named or agent_lists.chosen(options)
    what = Agent.Order.DRAIN
    if options["action"] == "terminate":
        what = Agent.Order.NOW if options["now"] else Agent.Order.TERMINATE
    reason = options["reason"] or f"An operator ordered it to {'end now' if what == Agent.Order.NOW else what}."
    ordered = agents.order(agents=[agent.id for agent in found], what=what, reason=reason)
    refused = [agent for agent in found if agent.id not in {one.id for one in ordered}]
    for agent in refused:
        command.say(
            f"{agent.ref}  {agent.name} {'has ended' if agent.state not in Agent.LIVE else 'is ending already'}"
        )
    if options["node"] and Node.objects.filter(name=options["node"], cordoned=False).exists():
        command.say(
            f"{options['node']} still takes new agents. To keep it empty: "
            f"{invocation.command('fleet_agents', 'cordon', options['node'])}"
        )
    code = 0
    if options["no_wait"]:
        for agent in ordered:
            command.say(f"{agent.ref}  {agent.name} is told to {'end now' if what == Agent.Order.NOW else what}")
    else:
        code = _ended(command, ordered, patient=what == Agent.Order.DRAIN)
    for kind in AgentType.objects.filter(agent__in=ordered, enabled=True, outside=False, autoscale=False).distinct():
        if not _staying(kind.name).exists():
            command.say(
                f"No agent of type {kind.name} is left, and none starts by itself: its queued sorties wait. "
                f"Start one: {invocation.command('fleet_agents', 'spawn', kind.name)}"
            )
    if options["json"]:
        now = Agent.objects.select_related("type", "node").filter(id__in=[agent.id for agent in found]).order_by("id")
        command.show(roster.rows(now))
    return code


def _ended(command: OperatorCommand, ordered: Collection[Agent], *, patient: bool) -> int:
    """Wait until they have ended: a drain without limit, all else as long as it may take."""
    limit_s = settings.FLEET_DRAIN_S + 3 * settings.FLEET_GRACE_S + settings.FLEET_LEASE_S
    deadline = None if patient else time.monotonic() + limit_s
    left = {agent.id: agent for agent in ordered}
    while left:
        for agent in Agent.objects.select_related("type", "node").filter(id__in=list(left)):
            if agent.state not in Agent.LIVE:
                del left[agent.id]
                command.say(f"{agent.ref}  {agent.name} {agent.state}")
        if left and deadline is not None and time.monotonic() > deadline:
            command.say(f"{len(left)} have not ended yet. See: {invocation.command('fleet_agents', 'list')}")
            return TIMED_OUT
        time.sleep(LOOK_S)
    return 0
