"""`fleet_agents resources`: the CPU and memory use of agents and their sorties, now and over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agents import queries
from agents.models import Agent
from fleet.console import json_output, lines, repeating, sparklines
from fleet.management.operator import OperatorCommand
from fleet.services.outages import start_hint
from missions.management import completion
from missions.management.agents import lists

MAX_ROWS = 40
BAR_WIDTH = 20  # columns


def add_arguments(actions: Any) -> None:
    resources = actions.add_parser("resources", help="show CPU and memory use, or one agent's history")
    agent = resources.add_argument("agent", nargs="?", help="its id (agt_…) or its name (backend-1)")
    completion.complete(agent, by=completion.agents)
    lists.add_filters(resources)
    resources.add_argument("--json", action="store_true", help="print one JSON document")
    resources.add_argument("--watch", **repeating.ARGUMENT)


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    show = _history if options["agent"] else _table
    return command.show_repeatedly(lambda: show(command, options), every_s=options["watch"])


def _table(command: OperatorCommand, options: dict[str, Any]) -> int:
    agents = lists.select(options)
    usage = queries.usage(agents)
    if options["json"]:
        rows = [_row(agent, usage.get(agent.id)) for agent in agents]
        command.show(rows, one_line=options["watch"] is not None)
        return 0
    if not agents:
        command.say(f"There are no agents. {start_hint()}")
        return 0
    width = lines.columns(command.stdout)
    name_width = max(len(lines.one_line(agent.name)) for agent in agents)
    command.stdout.write(
        f"{'agent':<{name_width}}  {'cpu':>6}  {'memory':>9}  {'peak':>9}  {'proc':>4}  cpu, last hour"
    )
    for agent in agents:
        command.stdout.write(lines.fitted(_line(agent, usage.get(agent.id), name_width), width=width))
    return 0


def _row(agent: Agent, usage: queries.Usage | None) -> dict[str, Any]:
    """`{id, name, type, node, state, at, cpu, …}` (docs/commands.md); null until the first measurement."""
    return {
        "id": agent.ref,
        "name": agent.name,
        "type": agent.type_id,
        "node": agent.node.name if agent.node else None,
        "state": agent.state,
        "at": usage.at.isoformat() if usage else None,
        "cpu": round(usage.cpu, 3) if usage else None,
        "memory_bytes": usage.memory_bytes if usage else None,
        "peak_bytes": usage.peak_bytes if usage else None,
        "processes": usage.processes if usage else None,
        "hour": [None if cpu is None else round(cpu, 3) for cpu in usage.hour] if usage else [],
    }


def _line(agent: Agent, usage: queries.Usage | None, name_width: int) -> str:
    name = f"{lines.one_line(agent.name):<{name_width}}"
    if usage is None:
        return f"{name}  {'not measured yet' if agent.node else 'external: no node measures it'}"
    memory, peak = _megabytes(usage.memory_bytes), _megabytes(usage.peak_bytes)
    spark = sparklines.line(usage.hour, top=_scale(usage.hour))
    return f"{name}  {usage.cpu:>6.2f}  {memory:>9}  {peak:>9}  {usage.processes:>4}  {spark}"


def _history(command: OperatorCommand, options: dict[str, Any]) -> int:
    agent = queries.find(options["agent"])
    if options["json"]:
        row = _row(agent, queries.usage([agent]).get(agent.id))
        if options["watch"] is not None:
            command.show({**row, "samples": list(_samples(agent))}, one_line=True)
        else:
            json_output.write_object(
                lambda text: command.stdout.write(text, ending=""), row, {"samples": _samples(agent)}
            )
        return 0
    samples = list(queries.samples(agent, limit=MAX_ROWS))
    if not samples:
        command.say(f"{agent} has no samples: none has been taken yet, or they have expired.")
        return 0
    width = lines.columns(command.stdout)
    command.stdout.write(lines.fitted(f"{agent}  {lines.one_line(agent.name)}  {agent.state}", width=width))
    command.stdout.write(f"{'since (UTC)':<19}  {'cpu':>6}  {'memory':>9}  {'proc':>4}")
    top_cpu = _scale([sample["cpu"] for sample in samples])
    for sample in samples:
        bar = "█" * round(BAR_WIDTH * min(sample["cpu"] / top_cpu, 1.0))
        command.stdout.write(
            f"{sample['at']:%Y-%m-%d %H:%M:%S}  {sample['cpu']:>6.2f}  {_megabytes(sample['memory_bytes']):>9}"
            f"  {sample['processes']:>4}  {bar}".rstrip()
        )
    return 0


def _samples(agent: Agent) -> Iterator[dict[str, Any]]:
    for sample in queries.samples(agent):
        yield {**sample, "at": sample["at"].isoformat(), "cpu": round(sample["cpu"], 3)}


def _scale(values: list[float | None]) -> float:
    """The value of a full bar: one processor, or the maximum if more were in use."""
    return max([1.0, *(value for value in values if value is not None)])


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.0f} MB"
