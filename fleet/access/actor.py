"""The authenticated caller of a request, and its permissions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth.models import User

from fleet.access.models import Account, Role
from fleet.access.rules import RULES, Visibility

EXECUTE = "fleet.plan_execute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The caller, read from the database at each request."""

    name: str  # as in fleet.caller
    role: Role
    user: User | None  # None: the workload of one attempt, which authenticates with its lease token
    key: UUID | None = None
    scopes: frozenset[str] | None = None  # None: all
    lease: str = ""  # the lease token, if it is one
    session: UUID | None = None
    teams: Sequence[int] | None = None  # ids, if they were read with the user

    def may(self, action: str) -> bool:
        """Whether the table of rules allows the action. `visibility` says on which objects."""
        rule = RULES.get(action)
        if rule is None or self.role not in rule.roles:
            return False
        if self.lease:
            return rule.lease is not None
        return self.scopes is None or rule.scope is None or rule.scope in self.scopes

    def visibility(self, action: str) -> Visibility:
        """The objects that an allowed action applies to."""
        if self.lease:
            return RULES[action].lease or Visibility.ATTEMPT
        return Visibility.ALL if self.role == Role.ADMIN else RULES[action].visibility

    def team_ids(self) -> Sequence[int]:
        """The ids of the user's teams."""
        if self.teams is not None or self.user is None:
            return self.teams or []
        return list(self.user.groups.values_list("id", flat=True))

    @property
    def can_execute(self) -> bool:
        """Whether the caller may launch plans that run code (plan.execute)."""
        return self.user is not None and self.user.has_perm(EXECUTE)

    @property
    def access_fingerprint(self) -> str:
        """A text that changes whenever the caller's role, permissions, scopes or teams change."""
        permissions = sorted(self.user.get_all_permissions()) if self.user and not self.user.is_superuser else []
        scopes = None if self.scopes is None else sorted(self.scopes)
        return repr(
            (str(self.role), self.user is not None and self.user.is_staff, permissions, scopes, sorted(self.team_ids()))
        )


def role_of(user: User) -> Role:
    """The role of a user: admin if and only if it is a superuser, otherwise the stored role, by default user.

    A stored role of admin counts as user, in case only the superuser flag was revoked.
    """
    if user.is_superuser:
        return Role.ADMIN
    try:
        role = Role(user.account.role)
    except Account.DoesNotExist:
        return Role.USER
    return Role.USER if role == Role.ADMIN else role
