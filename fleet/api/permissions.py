"""Permission classes: an endpoint's action is looked up in the table of fleet.access.rules. Deny by default."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from fleet.access.actor import Actor
from fleet.access.rules import RULES


class DenyAll(BasePermission):
    """The default permission, for a view that declares none."""

    message = "No rule allows this request."

    def has_permission(self, request: object, view: object) -> bool:
        return False


class RulePermission(BasePermission):
    """Allows what the table allows to the caller. The endpoint selects the visible objects (Actor.visibility)."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Actor):
            return False
        declaration = view.declaration(request.method)
        if declaration is None:  # DRF responds with 405
            return True
        self.message = _denial(request.auth, declaration.action)
        return request.auth.may(declaration.action)


def _denial(actor: Actor, action: str) -> str:
    """The message if the action is denied."""
    rule = RULES.get(action)
    if rule and rule.scope and actor.role in rule.roles and actor.scopes is not None and rule.scope not in actor.scopes:
        return f"This key lacks the scope `{rule.scope}` ({action}). Use a key that has it, or create one: POST /api/v1/keys."
    return f"{actor.name} (role {actor.role}) is not allowed to do this ({action})."
