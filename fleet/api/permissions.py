"""Who may call what: the action that an endpoint names, in the table of fleet.access.rules. Deny by default."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from fleet.access.actor import Actor


class Nobody(BasePermission):
    """The rule of a view that forgot to name one."""

    message = "No rule allows this."

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
        self.message = f"As {request.auth.name} ({request.auth.role}) you may not do this ({declared.action})."
        return request.auth.may(declared.action)
