"""Who asks, and what of it they may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth.models import User

from fleet.access.models import Account, Role
from fleet.access.rules import RULES, Reach

EXECUTE = "fleet.plan_execute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Made anew for each request from what the database says then."""

    name: str  # as fleet.access.caller has it
    role: Role
    user: User | None  # None: the work of one attempt, which shows its lease token
    key: UUID | None = None
    scopes: frozenset[str] | None = None  # None: all
    lease: str = ""  # the token, where it is one
    session: UUID | None = None
    teams: Sequence[int] | None = None  # ids of the user's, where they were read with it

    def may(self, action: str) -> bool:
        """Whether the table allows the action at all; which things it reaches is `reach`."""
        rule = RULES.get(action)
        if rule is None or self.role not in rule.roles:
            return False
        if self.lease:
            return rule.lease is not None
        return self.scopes is None or rule.scope is None or rule.scope in self.scopes

    def reach(self, action: str) -> Reach:
        if self.lease:
            return RULES[action].lease or Reach.HELD
        return Reach.ALL if self.role == Role.ADMIN else RULES[action].reach

    def in_teams(self) -> Sequence[int]:
        """The ids of the teams that it is in."""
        if self.teams is not None or self.user is None:
            return self.teams or []
        return list(self.user.groups.values_list("id", flat=True))

    @property
    def executes(self) -> bool:
        """Whether it may launch plans that run code (plan.execute)."""
        return self.user is not None and self.user.has_perm(EXECUTE)


def role_of(user: User) -> Role:
    """A superuser is an admin, and nobody else is: who is none any more, whoever took that away, is a user. So is whom nobody
    gave a role."""
    if user.is_superuser:
        return Role.ADMIN
    try:
        role = Role(user.account.role)
    except Account.DoesNotExist:
        return Role.USER
    return Role.USER if role == Role.ADMIN else role
