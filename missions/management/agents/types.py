"""`fleet_agents type show|set`: the settings of one agent type, and changes to them."""

from __future__ import annotations

import json
import os
import re
from argparse import SUPPRESS, ArgumentTypeError
from typing import Any

from agents.models import AgentType
from agents.operations import types
from fleet import errors
from fleet.console import arguments, invocation, lines
from fleet.management.operator import OperatorCommand
from missions.management import completion, plan_arguments
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
        parse, metavar = _parser(setting, field)
        change.add_argument(
            f"--{setting.replace('_', '-')}",
            dest=setting,
            default=SUPPRESS,
            type=parse,
            metavar=metavar,
            help=_help(setting, field),
        )


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    if options["verb"] == "set":
        changes = {setting: options[setting] for setting in types.SETTINGS if setting in options}
        if not changes:
            raise errors.Invalid(
                "No setting was given.",
                hint=f"For example: {invocation.command('fleet_agents', 'type', 'set', options['type'], '--concurrency', '4')}",
            )
        if isinstance(paths := changes.get("readable"), list):
            changes["readable"] = [_absolute(path) for path in paths]
        agent_type = types.change(name=options["type"], changes=changes)
        for path in agent_type.readable if "readable" in changes else ():
            if not os.path.lexists(path):
                command.say(
                    f"Warning: {lines.one_line(path)} does not exist on this host. Where it is missing, workloads run without it."
                )
    else:
        agent_type = types.find(options["type"])
    (row,) = roster.types([agent_type])
    if options["json"]:
        command.show({**row, **{name: getattr(agent_type, name) for name in types.STRING_LISTS}})
        return 0
    fields = {
        "name": agent_type.name,
        **{name: _format(name, value) for name, value in types.settings_of(agent_type).items()},
        "takes prompts": "yes" if row["takes_prompt"] else "no",
        "live agents": str(row["live"]),
    }
    labels = [name.replace("_", " ") for name in fields]
    indent = max(map(len, labels)) + 2
    width = lines.columns(command.stdout)
    for label, text in zip(labels, fields.values(), strict=True):
        command.stdout.write(lines.fitted(f"{label:<{indent}}{lines.one_line(text)}", width=width, indent=indent))
    return 0


def _absolute(path: Any) -> Any:
    """A path from the command line as an absolute one: relative ones start from the current folder, ~ from a home folder.

    Anything but a path is returned unchanged, to be refused later.
    """
    if not isinstance(path, str) or not path:
        return path
    expanded = os.path.expanduser(path)
    return expanded if os.path.isabs(expanded) else os.path.join(plan_arguments.current_folder(), expanded)


def _format(setting: str, value: Any) -> str:
    """A setting in the syntax of `type set`. If it is zero or empty, the help text says what that means."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
    text, key = ("0", "0") if value == 0 else ("none", "Empty")
    if setting == "prompt_argv":  # whether the type takes prompts has a line of its own
        return text
    help_text = getattr(AgentType._meta.get_field(setting), "help_text", "")
    meaning = re.search(rf"\b{key}: ([^.]+)\.", help_text)
    return f"{text} ({meaning[1]})" if meaning else text


def _parser(setting: str, field: Any) -> tuple[Any, str]:
    """The function that reads an option's value, and its placeholder in the help."""
    if setting in types.STRING_LISTS:
        return _json, "JSON"
    match field.get_internal_type():
        case "BooleanField":
            return _switch, "on|off"
        case "CharField":
            return str, "TEXT"
    return (_count_or_none, "N|none") if field.null else (arguments.count, "N")


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


def _count_or_none(text: str) -> int | None:
    return None if text == "none" else arguments.count(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentTypeError(f'{text[:60]!r} is not JSON; write a list like ["program", "argument"]') from error
