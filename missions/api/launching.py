"""What a client may launch: a plan of its own, one that operators offer, or a task in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group
from rest_framework.exceptions import ValidationError

from fleet import errors
from fleet.access.actor import Actor
from fleet.access.models import Role
from missions import folders, operations
from missions.models import Mission, Template
from missions.operations import plan_reading
from missions.plan import Plan, PlanError
from missions.plan.reader_process import Summary

WAYS = ("plan", "template", "objective")


def launch(*, who: Actor, given: Mapping[str, Any]) -> Mission:
    """The mission that a body of `POST /missions` asks for. Forbidden where its plan runs code and the caller may not."""
    named = [way for way in WAYS if given.get(way) is not None]
    if len(named) != 1:
        raise errors.Invalid("Send exactly one of plan, template and objective.")
    team_given = team(who, given.get("team"))
    folder, template, params = folders.folder_for_api(given.get("folder") or ""), "", dict(given["params"])
    match named[0]:
        case "plan":
            loaded, text = read(given["plan"])
        case "template":
            found = Template.objects.filter(name=given["template"], enabled=True).first()
            if found is None:
                raise errors.NotFound(f"There is no template {given['template']!r}.", hint="See GET /api/v1/templates.")
            loaded, text = _offered(found)
            folder, template = found.folder or folder, found.name
        case _:
            if not given.get("agent"):
                raise errors.Invalid(
                    "An objective needs `agent`, the agent type to run it.",
                    hint="See /api/v1/agent-types.",
                    pointer="/agent",
                )
            loaded, text = _task(given["agent"], given["objective"])
            params = {**params, "task": given["objective"]}
    try:
        return operations.launch(
            plan=loaded,
            text=text,
            params=params,
            folder=folder,
            by=who.user,
            team=team_given,
            executes=who.executes,
            template=template,
            start=given["start"],
        )
    except PlanError as wrong:
        raise ValidationError(_of_params(wrong, loaded, params)) from None


def _offered(template: Template) -> tuple[Plan, str]:
    """The plan of a template, which was good when it was saved: a type that it names may be gone since."""
    try:
        return read(template.text)
    except PlanError as wrong:
        said = f"{template.name} cannot be launched any more: {wrong.faults[0]} Tell who runs the fleet."
        raise ValidationError({"template": [said]}) from None


def _task(agent_type: str, task: str) -> tuple[Plan, str]:
    """The plan of a task in words. What is wrong with it is wrong with what the client sent, which is no plan."""
    try:
        return operations.task(agent_type=agent_type, task=task)
    except PlanError as wrong:
        told: dict[str, list[str]] = {}
        for fault in wrong.faults:
            fix = "See `takes_prompt` in GET /api/v1/agent-types." if fault.where.endswith(".prompt") else fault.fix
            field = "agent" if fault.where.startswith("sorties") else "objective"
            told.setdefault(field, []).append(f"{fault.fault} {fix}".strip())
        raise ValidationError(told) from None


def _of_params(wrong: PlanError, read: Plan, given: Mapping[str, Any]) -> dict[str, Any]:
    """The faults of a plan's inputs, as those of `params`."""
    told: dict[str, Any] = {}
    for fault in wrong.faults:
        name = fault.where.removeprefix("inputs.")
        missing = name in read.inputs and name not in given
        fix = f"Give it in `params`. {read.inputs[name].description}" if missing else fault.fix
        told.setdefault(name or "non_field_errors", []).append(f"{fault.fault} {fix}".strip())
    return {"params": told}


def read(given: Any) -> tuple[Plan, str]:
    """A plan as an object, or as a text in YAML or JSON; PlanError with all its faults."""
    text = _text(given)
    return plan_reading.load(text), text


def check(given: Any) -> Summary:
    """What a plan is; PlanError with all its faults."""
    return plan_reading.summary(_text(given))


def _text(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def team(who: Actor, name: str | None) -> Group | None:
    """A team that the caller is in; an admin names any."""
    if name is None:
        return None
    teams = Group.objects.all() if who.role == Role.ADMIN or who.user is None else who.user.groups.all()
    found = teams.filter(name=name).first()
    if found is None:
        raise errors.Invalid(f"You are not in a team called {name!r}.", hint="See GET /api/v1/me.", pointer="/team")
    return found
