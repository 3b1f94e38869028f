"""Who may call what: the action that an endpoint names, in the table of fleet.access.rules. Deny by default."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from fleet.access.actor import Actor
from fleet.access.rules import RULES


class Nobody(BasePermission):
    """The rule of a view that forgot to name one."""

    message = "No rule allows this request."

    def has_permission(self, request: object, view: object) -> bool:
        return False


class Ruled(BasePermission):
    """What the table allows to the caller. Which things an action reaches is up to the endpoint (Actor.reach)."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Actor):
            return False
        declared = view.declared(request.method)
        if declared is None:  # answered 405
            return True
        self.message = _why(request.auth, declared.action)
        return request.auth.may(declared.action)


def _why(who: Actor, action: str) -> str:
    """Why somebody may not, if they may not."""
    rule = RULES.get(action)
    if rule and rule.scope and who.role in rule.roles and who.scopes is not None and rule.scope not in who.scopes:
        return f"This key lacks the scope `{rule.scope}` ({action}). Use a key that has it, or create one: POST /api/v1/keys."
    return f"As {who.name} ({who.role}) you may not do this ({action})."
