"""Launching over HTTP: from the client's own plan, from a template, or from an objective in words."""

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

SOURCES = ("plan", "template", "objective")


def launch(*, actor: Actor, body: Mapping[str, Any]) -> Mission:
    """Launch a mission from the body of `POST /missions`. Raises Forbidden for code without plan.execute."""
    sources = [source for source in SOURCES if body.get(source) is not None]
    if len(sources) != 1:
        raise errors.Invalid("Send exactly one of plan, template and objective.")
    team = find_team(actor, body.get("team"))
    folder = folders.folder_for_api(body.get("folder") or "")
    params = dict(body["params"])
    template = ""
    match sources[0]:
        case "plan":
            plan, text = load(body["plan"])
        case "template":
            row = Template.objects.filter(name=body["template"], enabled=True).first()
            if row is None:
                raise errors.NotFound(f"There is no template {body['template']!r}.", hint="See GET /api/v1/templates.")
            plan, text = _template_plan(row)
            folder, template = row.folder or folder, row.name
        case _:
            if not body.get("agent"):
                raise errors.Invalid(
                    "An objective needs `agent`, the agent type to run it.",
                    hint="See /api/v1/agent-types.",
                    pointer="/agent",
                )
            plan, text = operations.plan_for_task(agent_type=body["agent"], task=body["objective"])
            params["task"] = body["objective"]
    try:
        return operations.launch(
            plan=plan,
            text=text,
            params=params,
            folder=folder,
            by=actor.user,
            team=team,
            can_execute=actor.can_execute,
            template=template,
            start=body["start"],
        )
    except PlanError as error:
        raise ValidationError(_params_errors(error, plan, params)) from None


def _template_plan(template: Template) -> tuple[Plan, str]:
    """The plan of a template. It was valid when it was saved, but an agent type may have been removed since."""
    try:
        return load(template.text)
    except PlanError as error:
        detail = f"{template.name} can no longer be launched: {error.problems[0]} Tell the fleet's operators."
        raise ValidationError({"template": [detail]}) from None


def _params_errors(error: PlanError, plan: Plan, params: Mapping[str, Any]) -> dict[str, Any]:
    """The errors of a plan's inputs, as validation errors of `params`."""
    details: dict[str, Any] = {}
    for problem in error.problems:
        name = problem.where.removeprefix("inputs.")
        missing = name in plan.inputs and name not in params
        fix = f"Set it in `params`. {plan.inputs[name].description}" if missing else problem.fix
        details.setdefault(name or "non_field_errors", []).append(f"{problem.message} {fix}".strip())
    return {"params": details}


def load(source: Any) -> tuple[Plan, str]:
    """A plan, from an object or from YAML or JSON text, and its text. Raises PlanError with all errors."""
    text = plan_text(source)
    return plan_reading.load(text), text


def check(source: Any) -> Summary:
    """A summary of a plan. Raises PlanError with all errors."""
    return plan_reading.summary(plan_text(source))


def plan_text(source: Any) -> str:
    """The text of a plan that was sent as an object or as text."""
    return source if isinstance(source, str) else json.dumps(source, ensure_ascii=False)


def find_team(actor: Actor, name: str | None) -> Group | None:
    """A team of the caller, by name. Admins may name any team."""
    if name is None:
        return None
    teams = Group.objects.all() if actor.role == Role.ADMIN or actor.user is None else actor.user.groups.all()
    team = teams.filter(name=name).first()
    if team is None:
        raise errors.Invalid(f"You are not in a team called {name!r}.", hint="See GET /api/v1/me.", pointer="/team")
    return team
