"""Who may call what. Deny by default: a view that names no rule answers nobody."""

from __future__ import annotations

from rest_framework.permissions import BasePermission


class Nobody(BasePermission):
    """The rule of a view that forgot to name one."""

    message = "No rule allows this."

    def has_permission(self, request: object, view: object) -> bool:
        return False
