"""`fleet_agents spawn|drain|terminate|cordon|uncordon`: orders to agents and nodes, and the wait for them."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from agents import operations as agents
from agents import queries
from agents.models import Agent, AgentType, Node
from fleet import errors
from fleet.console import arguments, invocation, lines
from fleet.management.operator import OperatorCommand
from missions import operations, plan
from missions.management import completion, mission_watch, plan_arguments
from missions.management.agents import lists
from missions.models import Mission
from missions.queries import roster

POLL_S = 0.05
FAILED, TIMED_OUT = 1, 3


def add_arguments(actions: Any) -> None:
    spawn = actions.add_parser("spawn", help="start agents of a type, optionally with a task")
    completion.complete(spawn.add_argument("type", metavar="TYPE"), by=completion.types)
    spawn.add_argument(
        "task", metavar="TASK", nargs="?", help="a prompt, launched and watched as a mission of one sortie"
    )
    add_spawn_options(spawn)
    spawn.add_argument("--count", type=arguments.count, default=1, help="how many (default: 1)")
    drain = actions.add_parser("drain", help="let agents finish their sorties, then end them")
    terminate = actions.add_parser("terminate", help="end agents; sorties that do not finish in time are queued again")
    terminate.add_argument("--now", action="store_true", help="stop their sorties at once and queue them again")
    for parser in (drain, terminate):
        references = parser.add_argument("agents", nargs="*", metavar="ID", help="ids (agt_…) or names (backend-1)")
        completion.complete(references, by=completion.agents)
        lists.add_filters(parser)
        parser.add_argument("--all", action="store_true", help="every live agent")
        parser.add_argument("--reason", default="", help="recorded with the agent")
        parser.add_argument("--no-wait", action="store_true", help="return without waiting for the result")
        parser.add_argument("--json", action="store_true", help="print one JSON document")
    cordon = actions.add_parser("cordon", help="keep new agents off nodes; their current agents stay")
    uncordon = actions.add_parser("uncordon", help="allow new agents on nodes again")
    for parser in (cordon, uncordon):
        nodes = parser.add_argument("nodes", nargs="+", metavar="NODE", help="names, as `status` shows them")
        completion.complete(nodes, by=completion.nodes)
        parser.add_argument("--reason", default="", help="recorded in the event")
        parser.add_argument("--json", action="store_true", help="print one JSON document")


def add_spawn_options(parser: Any) -> None:
    """Add the options that `fleet_agents spawn` and `fleet_spawn` share."""
    node = parser.add_argument(
        "--node", metavar="NODE", help="start them on this node (default: the one with the most room)"
    )
    completion.complete(node, by=completion.nodes)
    parser.add_argument(
        "--concurrency", type=arguments.count, help="sorties at once per agent (default: the type's setting)"
    )
    parser.add_argument("--no-wait", action="store_true", help="return without waiting for the result")
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
        verb = "takes" if changed else "already takes"
        command.say(f"{name} {verb} {'no new agents' if on else 'new agents'}.")
    if on:
        drain = invocation.command("fleet_agents", "drain", "--node", options["nodes"][0])
        command.say(f"Its agents stay. End them: {drain}")
    if options["json"]:
        command.show([node for node in roster.nodes() if node["name"] in options["nodes"]])
    return 0


def spawn(command: OperatorCommand, options: dict[str, Any]) -> int:
    """Start agents and wait until they have reported. With a task, launch it for their type and watch it.

    If no node has room for another agent, the running agents of the type get the task.
    """
    task_plan = None
    if options["task"] is not None:
        task_plan = operations.plan_for_task(agent_type=options["type"], task=options["task"])
    try:
        spawned = agents.spawn(
            type=options["type"], count=options["count"], node=options["node"], concurrency=options["concurrency"]
        )
    except agents.NoCapacity as error:
        running = _not_ending(options["type"]).count() if task_plan else 0
        if not running:
            raise
        recipient = "The running agent" if running == 1 else f"One of the {running} running agents"
        command.say(f"{error.message} {recipient} gets the task.")
        spawned = []
    if not options["no_wait"]:
        spawned = _wait_for_reports(command, spawned)
    failed = [agent for agent in spawned if agent.state not in Agent.LIVE]
    mission = None if failed or task_plan is None else _launch(task_plan, options["task"])
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
        code = mission_watch.watch_to_end(mission=mission, command=command, as_json=options["json"])
    if names := [agent.name for agent in spawned]:
        stays = "stays for further tasks. End it" if len(names) == 1 else "stay for further tasks. End them"
        command.say(f"{', '.join(names)} {stays}: {invocation.command('fleet_agents', 'terminate', *names)}")
    return code


def _not_ending(type: str) -> QuerySet[Agent]:
    """The live agents of a type that have not been ordered to end."""
    return Agent.objects.filter(type=type, state__in=Agent.LIVE, order__in=("", Agent.Order.RESTART)).exclude(
        state=Agent.State.DRAINING
    )


def _wait_for_reports(command: OperatorCommand, spawned: list[Agent]) -> list[Agent]:
    """Wait until each agent has reported or failed, and print the outcome. Return the agents as they are then."""
    deadline = time.monotonic() + settings.FLEET_SPAWN_S + 5
    ids = [agent.id for agent in spawned]
    reported: set[UUID] = set()
    while True:
        current = list(Agent.objects.select_related("type", "node").filter(id__in=ids).order_by("id"))
        for agent in current:
            if agent.state != Agent.State.SPAWNING and agent.id not in reported:
                reported.add(agent.id)
                if agent.state in Agent.LIVE:
                    command.say(f"{agent.ref}  {agent.name} is {agent.state}, pid {agent.pid}")
                else:
                    command.say(f"{agent.ref}  {agent.name} {agent.state}: {agent.reason}")
                    command.say(f"  Its log: {invocation.command('fleet_agents', 'logs', agent.ref)}")
        if len(reported) == len(ids):
            return current
        if time.monotonic() > deadline:
            raise errors.Unavailable(
                f"{len(ids) - len(reported)} of {len(ids)} agents have not reported yet.",
                hint=f"See the log of their node: {invocation.command('fleet_services', 'logs', 'node')}",
            )
        time.sleep(POLL_S)


def _launch(task_plan: tuple[plan.Plan, str], task: str) -> Mission:
    parsed, text = task_plan
    return operations.launch(
        plan=parsed,
        text=text,
        params={"task": task},
        folder=plan_arguments.current_folder(),
        by=None,
        can_execute=True,
        operator=True,
    )


def _end(command: OperatorCommand, options: dict[str, Any]) -> int:
    selected = [queries.find(reference) for reference in options["agents"]]
    if not selected and not (options["all"] or options["type"] or options["node"]):
        raise errors.Invalid("No agents are selected.", hint="Name agents, or use --type, --node or --all.")
    selected = selected or lists.select(options)
    order = Agent.Order.DRAIN
    if options["action"] == "terminate":
        order = Agent.Order.NOW if options["now"] else Agent.Order.TERMINATE
    verb = "end now" if order == Agent.Order.NOW else str(order)
    reason = options["reason"] or f"An operator ordered it to {verb}."
    ordered = agents.order(agents=[agent.id for agent in selected], order=order, reason=reason)
    accepted = {agent.id for agent in ordered}
    for agent in selected:
        if agent.id in accepted:
            continue
        command.say(
            f"{agent.ref}  {agent.name} {'has ended' if agent.state not in Agent.LIVE else 'is already ending'}"
        )
    if options["node"] and Node.objects.filter(name=options["node"], cordoned=False).exists():
        command.say(
            f"{options['node']} still takes new agents. To keep it empty: "
            f"{invocation.command('fleet_agents', 'cordon', options['node'])}"
        )
    code = 0
    if options["no_wait"]:
        for agent in ordered:
            command.say(f"{agent.ref}  {agent.name} has been ordered to {verb}")
    else:
        code = _wait_for_ends(command, ordered, limited=order != Agent.Order.DRAIN)
    types = AgentType.objects.filter(agent__in=ordered, enabled=True, external=False, autoscale=False).distinct()
    for name in types.values_list("name", flat=True):
        if not _not_ending(name).exists():
            command.say(
                f"No agent of type {name} is left, and none starts by itself: its queued sorties wait. "
                f"Start one: {invocation.command('fleet_agents', 'spawn', name)}"
            )
    if options["json"]:
        rows = Agent.objects.select_related("type", "node").filter(id__in=[agent.id for agent in selected])
        command.show(roster.rows(rows.order_by("id")))
    return code


def _wait_for_ends(command: OperatorCommand, ordered: Collection[Agent], *, limited: bool) -> int:
    """Wait until the agents have ended. `limited`: give up after the longest time that this takes without a drain."""
    limit_s = settings.FLEET_DRAIN_S + 3 * settings.FLEET_GRACE_S + settings.FLEET_LEASE_S
    deadline = time.monotonic() + limit_s if limited else None
    waiting = {agent.id for agent in ordered}
    while waiting:
        for agent in Agent.objects.select_related("type", "node").filter(id__in=waiting):
            if agent.state not in Agent.LIVE:
                waiting.discard(agent.id)
                command.say(f"{agent.ref}  {agent.name} {agent.state}")
        if waiting and deadline is not None and time.monotonic() > deadline:
            count = lines.counted(len(waiting), "agent")
            verb = "has" if len(waiting) == 1 else "have"
            command.say(f"{count} {verb} not ended yet. See: {invocation.command('fleet_agents', 'list')}")
            return TIMED_OUT
        time.sleep(POLL_S)
    return 0
