"""`fleet_agents type show|set`: one agent type, and how it is changed."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from typing import Any

from agents.models import AgentType
from agents.operations import types
from fleet import errors, invocation
from fleet.console import arguments, lines
from fleet.management.operator import OperatorCommand
from missions.management import completing
from missions.queries import roster


def add_arguments(actions: Any) -> None:
    one = actions.add_parser("type", help="one agent type: show it, or change it")
    deeds = one.add_subparsers(dest="deed", required=True)
    show = deeds.add_parser("show", help="its settings")
    change = deeds.add_parser("set", help="change some of its settings; nodes see it within a second")
    for each in (show, change):
        completing.completed(each.add_argument("type", metavar="TYPE"), by=completing.types)
        each.add_argument("--json", action="store_true", help="one JSON document on standard output")
    for setting in types.SETTINGS:
        field = AgentType._meta.get_field(setting)
        kind, metavar = _kind(setting, field.get_internal_type())
        change.add_argument(
            f"--{setting.replace('_', '-')}", dest=setting, type=kind, metavar=metavar, help=_help(setting, field)
        )


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    if options["deed"] == "set":
        changes = {setting: options[setting] for setting in types.SETTINGS if options[setting] is not None}
        if not changes:
            raise errors.Invalid(
                "Nothing to change.",
                hint=f"For example: {invocation.command('fleet_agents', 'type', 'set', options['type'], '--concurrency', '4')}",
            )
        kind = types.change(name=options["type"], changes=changes)
    else:
        kind = types.find(options["type"])
    (row,) = roster.types([kind])
    if options["json"]:
        command.show({**row, **{name: getattr(kind, name) for name in types.TEXTS}})
        return 0
    shown = {"name": kind.name, **types.settings_of(kind), "takes_prompt": row["takes_prompt"], "live": row["live"]}
    for name, value in shown.items():
        command.stdout.write(f"{name.replace('_', ' '):<14} {lines.one(_written(value))}".rstrip())
    return 0


def _written(value: Any) -> str:
    """`on` and `off` as they are given; lists as JSON."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _kind(setting: str, field: str) -> tuple[Any, str]:
    if setting in types.TEXTS:
        return _texts, "JSON"
    if field == "BooleanField":
        return _switch, "on|off"
    return (str, "TEXT") if field == "CharField" else (arguments.count, "N")


def _help(setting: str, field: Any) -> str:
    """As the admin explains it."""
    text = str(field.help_text or "").rstrip(".") or {"enabled": "whether there are agents of it at all"}.get(
        setting, ""
    )
    if setting in types.TEXTS:
        text = f"{text}. As {types.TEXTS[setting][1]}"
    return text.replace("%", "%%")


def _switch(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ArgumentTypeError(f"{text!r} is neither on nor off")
    return text == "on"


def _texts(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ArgumentTypeError(f'{text[:60]!r} is not JSON; one looks like ["program", "argument"]') from fault
