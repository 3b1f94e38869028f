"""What a client may launch: a plan of its own, one that operators offer, or a task in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group

from fleet import errors
from fleet.access.actor import Actor
from fleet.access.models import Role
from missions import operations, plan, surroundings
from missions.models import Mission, Template
from missions.plan import Plan

WAYS = ("plan", "template", "objective")


def launch(*, who: Actor, given: Mapping[str, Any]) -> Mission:
    """The mission that a body of `POST /missions` asks for. Forbidden where its plan runs code and the caller may not."""
    named = [way for way in WAYS if given.get(way) is not None]
    if len(named) != 1:
        raise errors.Invalid("A mission has exactly one of plan, template and objective.", hint="Send one of them.")
    team_given = team(who, given.get("team"))
    folder, template, params = "", "", dict(given["params"])
    match named[0]:
        case "plan":
            loaded, text = read(given["plan"])
        case "template":
            found = Template.objects.filter(name=given["template"], enabled=True).first()
            if found is None:
                raise errors.NotFound(f"There is no template {given['template']!r}.", hint="See GET /api/v1/templates.")
            loaded, text = read(found.text)
            folder, template = found.folder, found.name
        case _:
            if not given.get("agent"):
                raise errors.Invalid(
                    "An objective needs an `agent`: the type that takes it.", hint="See /api/v1/agent-types."
                )
            loaded, text = operations.task(agent_type=given["agent"], task=given["objective"])
            params = {**params, "task": given["objective"]}
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


def read(given: Any) -> tuple[Plan, str]:
    """A plan as an object, or as a text in YAML or JSON; PlanError with all its faults."""
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return plan.load(text=text, surroundings=surroundings.current()), text


def team(who: Actor, name: str | None) -> Group | None:
    """A team that the caller is in; an admin names any."""
    if name is None:
        return None
    teams = Group.objects.all() if who.role == Role.ADMIN or who.user is None else who.user.groups.all()
    found = teams.filter(name=name).first()
    if found is None:
        raise errors.Invalid(f"You are in no team {name!r}.", hint="See GET /api/v1/me.")
    return found
