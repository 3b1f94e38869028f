"""`fleet_agents resources`: what agents and all that works for them use, now and over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agents import queries
from agents.models import Agent
from fleet.console import documents, lines, repeating, sparks
from fleet.management.operator import OperatorCommand
from fleet.services.outages import start_hint
from missions.management import agent_lists, completing

MOST_ROWS = 40
BAR = 20  # columns of a history's bars


def add_arguments(actions: Any) -> None:
    resources = actions.add_parser("resources", help="show processors and memory in use, or one agent's history")
    named = resources.add_argument("agent", nargs="?", help="its id (agt_…) or its name (backend-1)")
    completing.completed(named, by=completing.agents)
    agent_lists.narrowed(resources)
    resources.add_argument("--json", action="store_true", help="print one JSON document")
    resources.add_argument("--watch", **repeating.ARGUMENT)


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    show = _history if options["agent"] else _table
    return command.again(lambda: show(command, options), every_s=options["watch"])


def _table(command: OperatorCommand, options: dict[str, Any]) -> int:
    agents = agent_lists.chosen(options)
    used = queries.usage(agents)
    if options["json"]:
        rows = [_row(agent, used.get(agent.id)) for agent in agents]
        command.show(rows, one_line=options["watch"] is not None)
        return 0
    if not agents:
        command.say(f"There are no agents. {start_hint()}")
        return 0
    width = lines.columns(command.stdout)
    name_width = max(len(lines.one(agent.name)) for agent in agents)
    command.stdout.write(
        f"{'agent':<{name_width}}  {'cpu':>6}  {'memory':>9}  {'peak':>9}  {'proc':>4}  cpu, last hour"
    )
    for agent in agents:
        command.stdout.write(lines.fitted(_line(agent, used.get(agent.id), name_width), width=width))
    return 0


def _row(agent: Agent, use: queries.Usage | None) -> dict[str, Any]:
    """`{id, name, type, node, state, at, cpu, …}`: null where it has not been looked at yet (docs/commands.md)."""
    return {
        "id": agent.ref,
        "name": agent.name,
        "type": agent.type_id,
        "node": agent.node.name if agent.node else None,
        "state": agent.state,
        "at": use.at.isoformat() if use else None,
        "cpu": round(use.cpu, 3) if use else None,
        "memory_bytes": use.memory_bytes if use else None,
        "peak_bytes": use.peak_bytes if use else None,
        "processes": use.processes if use else None,
        "hour": [None if cpu is None else round(cpu, 3) for cpu in use.hour] if use else [],
    }


def _line(agent: Agent, use: queries.Usage | None, name_width: int) -> str:
    name = f"{lines.one(agent.name):<{name_width}}"
    if use is None:
        return f"{name}  {'not measured yet' if agent.node else 'external: no node measures it'}"
    spark = sparks.line(use.hour, top=_top(use.hour))
    return f"{name}  {use.cpu:>6.2f}  {_size(use.memory_bytes):>9}  {_size(use.peak_bytes):>9}  {use.processes:>4}  {spark}"


def _history(command: OperatorCommand, options: dict[str, Any]) -> int:
    agent = queries.find(options["agent"])
    if options["json"]:
        use = queries.usage([agent]).get(agent.id)
        if options["watch"] is not None:
            command.show({**_row(agent, use), "samples": list(_samples(agent))}, one_line=True)
        else:
            documents.write(_writer(command), _row(agent, use), {"samples": _samples(agent)})
        return 0
    found = list(queries.samples(agent, most=MOST_ROWS))
    if not found:
        command.say(f"{agent} has no samples: none was taken yet, or they have expired.")
        return 0
    width = lines.columns(command.stdout)
    command.stdout.write(lines.fitted(f"{agent}  {lines.one(agent.name)}  {agent.state}", width=width))
    command.stdout.write(f"{'since (UTC)':<19}  {'cpu':>6}  {'memory':>9}  {'proc':>4}")
    top_cpu = _top([one["cpu"] for one in found])
    for one in found:
        bar = "█" * round(BAR * min(one["cpu"] / top_cpu, 1.0))
        command.stdout.write(
            f"{one['at']:%Y-%m-%d %H:%M:%S}  {one['cpu']:>6.2f}  {_size(one['memory_bytes']):>9}"
            f"  {one['processes']:>4}  {bar}".rstrip()
        )
    return 0


def _samples(agent: Agent) -> Iterator[dict[str, Any]]:
    for one in queries.samples(agent):
        yield {**one, "at": one["at"].isoformat(), "cpu": round(one["cpu"], 3)}


def _writer(command: OperatorCommand) -> Any:
    return lambda text: command.stdout.write(text, ending="")


def _top(values: list[float | None]) -> float:
    """A full block is one processor, or the most that was in use."""
    return max([1.0, *(value for value in values if value is not None)])


def _size(size: int) -> str:
    return f"{size / 1_000_000:,.0f} MB"
