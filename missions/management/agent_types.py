"""`fleet_agents type show|set`: the settings of one agent type, and changes to them."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from typing import Any

from agents.models import AgentType
from agents.operations import types
from fleet import errors, invocation
from fleet.console import arguments, lines
from fleet.management.operator import OperatorCommand
from missions.management import completion
from missions.queries import roster


def add_arguments(actions: Any) -> None:
    type_parser = actions.add_parser("type", help="show or change the settings of one agent type")
    verbs = type_parser.add_subparsers(dest="verb", required=True)
    show = verbs.add_parser("show", help="show its settings")
    change = verbs.add_parser("set", help="change some of its settings; nodes apply them within a second")
    for parser in (show, change):
        completion.complete(parser.add_argument("type", metavar="TYPE"), by=completion.types)
        parser.add_argument("--json", action="store_true", help="print one JSON document")
    for setting in types.SETTINGS:
        field = AgentType._meta.get_field(setting)
        parse, metavar = _parser(setting, field.get_internal_type())
        change.add_argument(
            f"--{setting.replace('_', '-')}", dest=setting, type=parse, metavar=metavar, help=_help(setting, field)
        )


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    if options["verb"] == "set":
        changes = {setting: options[setting] for setting in types.SETTINGS if options[setting] is not None}
        if not changes:
            raise errors.Invalid(
                "No setting was given.",
                hint=f"For example: {invocation.command('fleet_agents', 'type', 'set', options['type'], '--concurrency', '4')}",
            )
        agent_type = types.change(name=options["type"], changes=changes)
    else:
        agent_type = types.find(options["type"])
    (row,) = roster.types([agent_type])
    if options["json"]:
        command.show({**row, **{name: getattr(agent_type, name) for name in types.STRING_LISTS}})
        return 0
    fields = {
        "name": agent_type.name,
        **types.settings_of(agent_type),
        "takes_prompt": row["takes_prompt"],
        "live": row["live"],
    }
    for name, value in fields.items():
        command.stdout.write(f"{name.replace('_', ' '):<14} {lines.one_line(_format(value))}".rstrip())
    return 0


def _format(value: Any) -> str:
    """A setting in the syntax of `type set`: booleans as `on` or `off`, lists as JSON."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _parser(setting: str, field_type: str) -> tuple[Any, str]:
    """The function that reads an option's value, and its placeholder in the help."""
    if setting in types.STRING_LISTS:
        return _json, "JSON"
    if field_type == "BooleanField":
        return _switch, "on|off"
    return (str, "TEXT") if field_type == "CharField" else (arguments.count, "N")


def _help(setting: str, field: Any) -> str:
    """The help text that the admin shows for this setting."""
    text = str(field.help_text or "").rstrip(".")
    if not text and setting == "enabled":
        text = "whether nodes run agents of this type"
    if setting in types.STRING_LISTS:
        text = f"{text}. As {types.STRING_LISTS[setting][1]}"
    return text.replace("%", "%%")


def _switch(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ArgumentTypeError(f"{text!r} is neither on nor off")
    return text == "on"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentTypeError(f'{text[:60]!r} is not JSON; write a list like ["program", "argument"]') from error
