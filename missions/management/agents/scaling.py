"""`fleet_agents autoscale`: what the autoscaler would do for each type and why; turns it on or off."""

from __future__ import annotations

from typing import Any

from agents.models import AgentType
from agents.operations import types
from fleet import errors
from fleet.console import invocation, lines, repeating
from fleet.management.operator import OperatorCommand
from missions.control import scaling
from missions.management import completion


def add_arguments(actions: Any) -> None:
    autoscale = actions.add_parser("autoscale", help="show what the autoscaler would do and why; turn it on or off")
    names = autoscale.add_argument("types", nargs="*", metavar="TYPE", help="only these types")
    completion.complete(names, by=completion.types)
    switch = autoscale.add_mutually_exclusive_group()
    switch.add_argument("--on", action="store_true", help="turn it on for these types")
    switch.add_argument("--off", action="store_true", help="turn it off for these types")
    autoscale.add_argument("--json", action="store_true", help="print one JSON document")
    autoscale.add_argument("--watch", **repeating.ARGUMENT)


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    type_names = set(AgentType.objects.values_list("name", flat=True))
    if unknown := [name for name in options["types"] if name not in type_names]:
        raise errors.NotFound(
            f"There is no agent type {unknown[0]!r}.", hint=f"See: {invocation.command('fleet_agents', 'types')}"
        )
    if options["on"] or options["off"]:
        if not options["types"]:
            switch = "--on" if options["on"] else "--off"
            example = invocation.command("fleet_agents", "autoscale", "backend", switch)
            raise errors.Invalid(f"{switch} needs the agent types to switch.", hint=f"For example: {example}")
        for name in options["types"]:
            types.change(name=name, changes={"autoscale": options["on"]})
    return command.show_repeatedly(lambda: _show(command, options), every_s=options["watch"])


def _show(command: OperatorCommand, options: dict[str, Any]) -> int:
    decisions = [
        decision for decision in scaling.decisions() if not options["types"] or decision.type in options["types"]
    ]
    if options["json"]:
        rows = [
            {
                "type": decision.type,
                "on": decision.on,
                "spawn": decision.spawn,
                "drain": len(decision.drain),
                "why": decision.why,
            }
            for decision in decisions
        ]
        command.show(rows, one_line=options["watch"] is not None)
        return 0
    for decision in decisions:
        change = f"{decision.spawn - len(decision.drain):+d}" if decision.spawn or decision.drain else "±0"
        mode = "on" if decision.on else "off, would be"
        command.stdout.write(
            lines.fitted(f"{decision.type:<14} {mode} {change}: {decision.why}", width=lines.columns(command.stdout))
        )
    return 0
