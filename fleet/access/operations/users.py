"""Operations on users: creating them, and changing their role, permission, password and access."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from fleet import audit, errors
from fleet.access import tokens
from fleet.access.actor import EXECUTE, role_of
from fleet.access.models import Account, Role
from fleet.console import invocation

NAME_CHARACTER = re.compile(r"[\w.@+-]")  # as Django allows
MAX_NAME = 150  # characters


def draft_user(*, name: str, teams: Collection[str] = ()) -> User:
    """A valid user that is not saved, so that a command can check the name before it asks for a password.

    The name is normalised (NFKC), as on the sign-in page. Raises Conflict if it is taken, Invalid if it is not a valid
    name, and NotFound if a team does not exist.
    """
    name = User.normalize_username(name)
    bad = next((character for character in name if not NAME_CHARACTER.match(character)), None)
    if bad or not 0 < len(name) <= MAX_NAME:
        why = f"it contains {bad!r}" if bad else f"it has {len(name)} characters" if name else "it is empty"
        raise errors.Invalid(
            f"{name[:40]!r} is not a valid user name: {why}.",
            hint=f"Use 1 to {MAX_NAME} letters, digits, and @ . + - _, for example ann.smith.",
        )
    if User.objects.filter(username=name).exists():
        raise errors.Conflict(f"User {name!r} already exists.", hint="Choose another name.")
    for team in teams:
        _find_team(team)
    return User(username=name)


def create_user(*, name: str, role: Role, password: str | None = None, teams: Collection[str] = ()) -> User:
    """Create a user. Without a password, the user can only use machine keys. Raises what `draft_user` raises."""
    with transaction.atomic():
        user = draft_user(name=name, teams=teams)
        if password is not None:
            try:
                validate_password(password, user)
            except ValidationError as error:
                raise errors.Invalid(" ".join(error.messages)) from error
        user.set_password(password)
        user.save()
        user.groups.set([_find_team(team) for team in teams])
        audit.record(kind="user.created", subject=_subject(user), after={"role": role, "teams": list(teams)})
        _apply_role(user, role)
    return user


def find_user(name: str) -> User:
    username = User.normalize_username(name)
    user = User.objects.select_related("account").filter(username=username).first()
    if user is None:
        raise errors.NotFound(
            f"There is no user {name[:40]!r}.", hint=f"See: {invocation.command('fleet_user', 'list')}"
        )
    return user


def set_role(*, user: User, role: Role) -> None:
    """Change a user's role. Admins become superusers. Raises Conflict if no admin would be left."""
    with transaction.atomic():
        if role != Role.ADMIN:
            require_other_admin(without=[user])
        before = role_of(User.objects.select_related("account").get(id=user.id))
        if before != role:
            audit.record(kind="role.changed", subject=_subject(user), before={"role": before}, after={"role": role})
        _apply_role(user, role)


def _apply_role(user: User, role: Role) -> None:
    Account.objects.update_or_create(user=user, defaults={"role": role})
    user.is_superuser = user.is_staff = role == Role.ADMIN
    user.save(update_fields=["is_superuser", "is_staff"])


def require_other_admin(*, without: Collection[User]) -> None:
    """Raise Conflict if these users are all the active admins.

    Call it in the transaction that demotes them: it locks the admins, so that two admins cannot demote each other at
    once.
    """
    with transaction.atomic():
        admins = User.objects.select_for_update().filter(is_superuser=True, is_active=True).order_by("id")
        usernames = {admin.pk: admin.username for admin in admins}
    if usernames and usernames.keys() <= {user.pk for user in without}:
        raise errors.Conflict(
            f"No admin would be left without {', '.join(usernames.values())}.",
            hint=f"Make another user an admin first: {invocation.command('fleet_user', 'role', 'NAME', 'admin')}",
        )


def set_execute(*, user: User, allowed: bool) -> None:
    """Grant plan.execute to a user, or revoke it. A user may also have it without a grant: see `inherited_execute`."""
    permission = Permission.objects.get(codename="plan_execute", content_type__app_label="fleet")
    with transaction.atomic():
        before = user.user_permissions.filter(pk=permission.pk).exists()
        if before != allowed:
            (user.user_permissions.add if allowed else user.user_permissions.remove)(permission)
            audit.record(
                kind="role.changed",
                subject=_subject(user),
                before={"plan.execute": before},
                after={"plan.execute": allowed},
            )


def inherited_execute(user: User) -> str:
    """Why the user has plan.execute without a grant: "as an admin" or "from the team ops"; empty if it has not."""
    if role_of(user) == Role.ADMIN:
        return "as an admin"
    granted = {"permissions__codename": "plan_execute", "permissions__content_type__app_label": "fleet"}
    teams = sorted(user.groups.filter(**granted).values_list("name", flat=True))
    return f"from the {'team' if len(teams) == 1 else 'teams'} {', '.join(teams)}" if teams else ""


def set_active(*, user: User, active: bool) -> None:
    """Enable or disable a user.

    Disabling ends the sessions and blocks the keys at once. Raises Conflict for the last admin.
    """
    with transaction.atomic():
        if not active:
            require_other_admin(without=[user])
        user.is_active = active
        user.save(update_fields=["is_active"])
        audit.record(kind="user.enabled" if active else "user.disabled", subject=_subject(user))
        if not active:
            tokens.end(user=user)


def set_password(*, user: User, password: str) -> None:
    """Set a new password, which ends all sessions of the user."""
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])


def serialize_user(user: User) -> dict[str, Any]:
    """`{name, role, active, can_execute, teams, created_at, last_sign_in_at}`"""
    return {
        "name": user.username,
        "role": role_of(user),
        "active": user.is_active,
        "can_execute": user.has_perm(EXECUTE),
        "teams": sorted(user.groups.values_list("name", flat=True)),
        "created_at": user.date_joined.isoformat(),
        "last_sign_in_at": user.last_login.isoformat() if user.last_login else None,
    }


def _subject(user: User) -> str:
    """The user as a subject in the audit trail."""
    return f"user:{user.username}"


def _find_team(name: str) -> Group:
    team = Group.objects.filter(name=name).first()
    if team is None:
        raise errors.NotFound(f"There is no team {name!r}.", hint="Create it in the admin, under Teams.")
    return team
