"""Who may start code: running a user-supplied plan requires `plan.execute`, checked at every start.

What counts is the permission of the user who starts the mission, at its launch and at each later resume or retry,
because it may have been revoked in between. Work that is already running continues. Templates need no permission:
operators wrote them.

`can_execute` says whether the caller has the permission. Admins and the host's operator always have it.
"""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import User

from fleet import errors
from missions.models import Mission
from missions.plan import Plan


def require_for_plan(*, plan: Plan, can_execute: bool) -> None:
    """Raise Forbidden if the plan runs code and its launcher may not."""
    if not can_execute and plan.runs_code:
        raise errors.Forbidden(
            "This plan runs code (run, call, verify, driver, env, cwd or workspace), which requires plan.execute.",
            hint="Ask an admin for the permission, or launch a template.",
        )


def require_for_mission(*, mission: UUID, can_execute: bool) -> None:
    """Raise Forbidden if the mission may run user-supplied code and the caller may not start it.

    A mission launched with the permission counts even if its plan contains no code: its agents may add some.
    """
    if not can_execute and Mission.objects.filter(id=mission, can_execute=True, template="").exists():
        raise refusal()


def require_for_own_change(*, mission: Mission, by: User | None, can_execute: bool) -> None:
    """Raise Forbidden if the caller may not put a change of their own into the mission, whose checks then run it.

    In the mission of a template, they run it with what the template grants.
    """
    require_for_mission(mission=mission.id, can_execute=can_execute)
    if mission.template and not may_edit_templates(by, can_execute=can_execute):
        raise errors.Forbidden(
            f"The mission comes from the template {mission.template}, so only users who may edit templates may put a "
            "change of their own into it.",
            hint="Let another attempt resolve the conflict, or drop the change.",
        )


def refusal() -> errors.Forbidden:
    """The error for a caller who may not start a mission's code."""
    return errors.Forbidden(
        "This mission may run code from a user-supplied plan, which requires plan.execute.",
        hint="Ask an admin for the permission, or to do this for you.",
    )


def may_edit_templates(user: User | None, *, can_execute: bool) -> bool:
    """Whether the caller may edit templates, and so run code with what a template grants (folder, `readable`, secrets).

    `user` is None for the host's operator. The rule is that of the template pages: staff who may change templates.
    """
    if user is None:
        return True
    return can_execute and user.is_active and user.is_staff and user.has_perm("missions.change_template")
