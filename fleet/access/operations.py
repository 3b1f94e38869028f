"""Operations on users, roles and machine keys, for the commands, the admin and the API. All changes are audited."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from fleet import audit, caller, errors, invocation
from fleet.access import request_users, tokens
from fleet.access.actor import EXECUTE, role_of
from fleet.access.models import Account, Key, Role
from fleet.access.rules import SCOPES
from fleet.postgres import statements

KEY_PREFIX = "flk_"
USER_NAME_CHARACTER = re.compile(r"[\w.@+-]")  # as Django allows
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and unpaired surrogates
MAX_USER_NAME, MAX_KEY_NAME = 150, 100  # characters
MAX_KEYS = 100  # valid keys per user: requests are counted by key, so without a maximum there would be no rate limit
USED_RESOLUTION_S = 60  # `used_at` of a key is updated at most this often


def draft_user(*, name: str, teams: Collection[str] = ()) -> User:
    """A valid user that is not saved, so that a command can check the name before it asks for a password.

    The name is normalised (NFKC), as on the sign-in page. Raises Conflict if it is taken, Invalid if it is not a valid
    name, and NotFound if a team does not exist.
    """
    name = User.normalize_username(name)
    bad = next((character for character in name if not USER_NAME_CHARACTER.match(character)), None)
    if bad or not 0 < len(name) <= MAX_USER_NAME:
        why = f"it contains {bad!r}" if bad else f"it has {len(name)} characters" if name else "it is empty"
        raise errors.Invalid(
            f"{name[:40]!r} is not a valid user name: {why}.",
            hint=f"Use 1 to {MAX_USER_NAME} letters, digits, and @ . + - _, for example ann.smith.",
        )
    if User.objects.filter(username=name).exists():
        raise errors.Conflict(f"User {name!r} already exists.", hint="Choose another name.")
    for team in teams:
        _team(team)
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
        user.groups.set([_team(team) for team in teams])
        audit.record(kind="user.created", subject=_subject(user), after={"role": role, "teams": list(teams)})
        _apply_role(user, role)
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


def find_user(name: str) -> User:
    username = User.normalize_username(name)
    user = User.objects.select_related("account").filter(username=username).first()
    if user is None:
        raise errors.NotFound(
            f"There is no user {name[:40]!r}.", hint=f"See: {invocation.command('fleet_user', 'list')}"
        )
    return user


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedKey:
    """A new key with its text, which is not stored."""

    key: Key
    text: str


def create_key(
    *, user: User, name: str, scopes: Collection[str], expires_at: datetime | None = None, maker: UUID | None = None
) -> CreatedKey:
    """Create a machine key, which lets a program act for the user within these scopes.

    `name`: what the key is for.
    `maker`: the key that creates this one; revoking it revokes this one.
    Raises Invalid for a name, scope or time that is not valid, and Conflict if `maker` has been revoked or the user has
    MAX_KEYS keys.
    """
    if not name.strip() or UNPRINTABLE.search(name) or len(name) > MAX_KEY_NAME:
        raise errors.Invalid(
            f"{name[:40]!r} is not a valid key name.",
            hint=f"Describe what the key is for, in 1 to {MAX_KEY_NAME} characters on one line.",
            pointer="/name",
        )
    unknown = sorted(set(scopes) - SCOPES.keys())
    if unknown or not scopes:
        raise errors.Invalid(
            f"There is no scope {', '.join(unknown)}." if scopes else "A key needs at least one scope.",
            hint=f"The scopes are {', '.join(SCOPES)}.",
        )
    if expires_at is not None and expires_at <= timezone.now():
        raise errors.Invalid("`expires_at` is in the past.", hint="Give a future time, or none.", pointer="/expires_at")
    if Key.objects.filter(user=user, revoked_at=None).exclude(expires_at__lte=Now()).count() >= MAX_KEYS:
        raise errors.Conflict(
            f"{user.username} has {MAX_KEYS} machine keys, which is the maximum.", hint="Revoke unused ones."
        )
    prefix = KEY_PREFIX + secrets.token_hex(4)
    text = f"{prefix}_{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        if maker is not None and not Key.objects.select_for_update().filter(id=maker, revoked_at=None).exists():
            raise errors.Conflict("The key of this request has been revoked.")
        key = Key.objects.create(
            user=user,
            name=name,
            prefix=prefix,
            digest=_digest(text),
            scopes=sorted(set(scopes)),
            expires_at=expires_at,
            maker_id=maker,
        )
        limits = {"scopes": key.scopes, "expires_at": expires_at.isoformat() if expires_at else None}
        audit.record(kind="key.created", subject=key.ref, after={**_key(key), **limits})
    return CreatedKey(key=key, text=text)


def revoke_key(*, key: Key) -> None:
    """Revoke a key and, recursively, the keys that were created with it. Idempotent."""
    with transaction.atomic():
        keys = list(Key.objects.select_for_update(of=("self",)).select_related("user").filter(id=key.id))
        while keys:
            for row in keys:
                if Key.objects.filter(id=row.id, revoked_at=None).update(revoked_at=Now()):
                    audit.record(kind="key.revoked", subject=row.ref, before=_key(row))
            makers = [row.id for row in keys]
            keys = list(
                Key.objects.select_for_update(of=("self",))
                .select_related("user")
                .filter(maker__in=makers)
                .order_by("id")
            )


def authenticate_key(text: str) -> Key:
    """The machine key with this text. Raises NotSignedIn if the key is not valid or its user is not active."""
    prefix = "_".join(text.split("_", 2)[:2])
    key = next(iter(Key.objects.raw(statements.read("fleet", "key_by_prefix"), {"prefix": prefix[:12]})), None)
    if key is None or not hmac.compare_digest(key.digest, _digest(text)):
        raise tokens.NotSignedIn(
            "Unknown machine key.",
            hint="Create one: "
            + invocation.command("fleet_key", "create", "NAME", "--user", "USER", "--scope", "read"),
            over_http="Check that the key is complete, or create one: POST /api/v1/keys.",
        )
    now = timezone.now()
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise tokens.NotSignedIn(f"Key {key.prefix} {'was revoked' if key.revoked_at else 'has expired'}.")
    key.user = request_users.owner(key)
    if not key.user.is_active:
        raise tokens.NotSignedIn(f"The user of key {key.prefix} is not active.")
    if key.used_at is None or (now - key.used_at).total_seconds() > USED_RESOLUTION_S:
        Key.objects.filter(id=key.id).update(used_at=Now())
        if key.used_at is None or _hour(key.used_at) != _hour(now):
            caller.identify(name=f"key:{key.prefix}", user=key.user_id)  # so that the entry names the key
            audit.record(kind="key.used", subject=key.ref)
    return key


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


def _key(key: Key) -> dict[str, str]:
    """The key as the audit trail describes it. Actions of the key itself have the actor `key:PREFIX`."""
    return {"user": key.user.username, "name": key.name, "prefix": key.prefix}


def _team(name: str) -> Group:
    team = Group.objects.filter(name=name).first()
    if team is None:
        raise errors.NotFound(f"There is no team {name!r}.", hint="Create it in the admin, under Groups.")
    return team


def _hour(moment: datetime) -> datetime:
    """The hour of a moment. A key's use is audited once an hour, not at each request."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
