"""What a schedule launches at a tick, checked with the permissions that its owner has at that moment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from django.contrib.auth.models import User

from fleet import errors
from fleet.access.actor import EXECUTE, role_of
from fleet.access.models import Role
from fleet.access.rules import RULES
from missions import cron, folders
from missions.models import Schedule, Template
from missions.operations import launching, plan_reading
from missions.plan import Json

FIELDS = ("at", "date", "name")  # of {{ schedule.… }} in params
_REFERENCE = re.compile(r"\{\{\s*schedule\.(\w+)\s*\}\}")


def prepare(schedule: Schedule, *, at: datetime) -> launching.Launch:
    """Check the launch of the tick at `at`.

    Raises Forbidden if the owner may not launch it now; NotFound if its template has been removed; further errors as
    for `launching.prepare`.
    """
    owner = None if schedule.operator else _owner(schedule)
    text, folder = _source(schedule)
    return launching.prepare(
        plan=plan_reading.load(text),
        text=text,
        params=fill_params(schedule.params, schedule=schedule, at=at),
        folder=folder,
        by=owner,
        team=schedule.team,
        can_execute=owner is None or owner.has_perm(EXECUTE),
        template=schedule.template,
        operator=schedule.operator,
        attended=False,
    )


def fill_params(params: Mapping[str, Json], *, schedule: Schedule, at: datetime) -> dict[str, Json]:
    """The parameters with `{{ schedule.at }}`, `{{ schedule.date }}` and `{{ schedule.name }}` replaced.

    Time and date are in the schedule's time zone. Everything else stays unchanged. Raises Invalid for another field.
    """
    local = cron.local(at, schedule.timezone).replace(microsecond=0)
    values = {"at": local.isoformat(), "date": local.date().isoformat(), "name": schedule.name}

    def value_of(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise errors.Invalid(
                f"{match[0]} is not a value of a schedule.",
                hint=f"Use schedule.{', schedule.'.join(FIELDS[:-1])} or schedule.{FIELDS[-1]}.",
                pointer="/params",
            )
        return values[match[1]]

    def fill(value: Json) -> Json:
        if isinstance(value, str):
            return _REFERENCE.sub(value_of, value)
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list) else value

    return {name: fill(value) for name, value in params.items()}


def _owner(schedule: Schedule) -> User:
    owner = User.objects.filter(id=schedule.owner_id).first() if schedule.owner_id else None
    if owner is None:
        raise errors.Forbidden(
            "The owner of this schedule was deleted, so it has no permissions to run with.",
            hint="Delete it, and create it again as another user.",
        )
    if not owner.is_active:
        raise errors.Forbidden(
            f"Its owner, {owner}, is disabled.", hint="Enable the user, or create the schedule as another one."
        )
    role = role_of(owner)
    if role not in RULES["missions.create"].roles:
        raise errors.Forbidden(
            f"Its owner, {owner}, may not launch missions as {role}.", hint="Change the user's role."
        )
    if schedule.team_id and role != Role.ADMIN and not owner.groups.filter(id=schedule.team_id).exists():
        raise errors.Forbidden(
            f"Its owner, {owner}, is no longer in the team {schedule.team}.", hint="Change the team of the schedule."
        )
    return owner


def _source(schedule: Schedule) -> tuple[str, str]:
    """The text of the plan, and the folder."""
    if schedule.template:
        template = Template.objects.filter(name=schedule.template, enabled=True).first()
        if template is None:
            raise errors.NotFound(f"There is no template {schedule.template!r}.", hint="Ask the fleet's operators.")
        return template.text, template.folder or _folder(schedule)
    return schedule.plan, _folder(schedule)


def _folder(schedule: Schedule) -> str:
    return schedule.folder if schedule.operator else folders.folder_for_api(schedule.folder)
