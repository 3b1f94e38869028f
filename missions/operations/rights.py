"""Code of a plan of somebody's own starts by the right of who makes it start (plan.execute), which is asked for at the launch
and at each start after it: it may have been taken from them meanwhile. What runs already goes on. A plan that operators offer
as a template is theirs, and asks for nobody's.

`executes` says whether who asks has the right: an admin and the machine's operator always do.
"""

from __future__ import annotations

from uuid import UUID

from fleet import errors
from missions.models import Mission
from missions.plan import Plan


def ask_for_plan(*, plan: Plan, executes: bool) -> None:
    """Forbidden where a plan that is to be launched runs code, and who launches it may not."""
    if not executes and any(sortie.executes for sortie in plan.sorties):
        raise errors.Forbidden(
            "This plan runs code (run, call, verify, driver, env or cwd), for which you need plan.execute.",
            hint="Ask an admin for it, or launch a template.",
        )


def ask_again(*, mission: UUID, executes: bool) -> None:
    """Forbidden where a mission may run code that is no template's, and who makes it start or start again may not. One that
    was launched with the right counts as such, whatever is in it: its agents may add code."""
    if not executes and Mission.objects.filter(id=mission, executes=True, template="").exists():
        raise errors.Forbidden(
            "This mission may run code of a plan that is no template, for which you need plan.execute.",
            hint="Ask an admin for it, or to do this.",
        )
