"""Users, roles and machine keys. One piece of code for commands, admin and API; every change is in the audit trail."""

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
from fleet.access.actor import role_of
from fleet.access.models import Account, Key, Role
from fleet.access.rules import SCOPES
from fleet.postgres import statements

PREFIX = "flk_"
NAMED = re.compile(r"[\w.@+-]")  # a character of a user's name, as Django has them
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # ends a line, steers a terminal, or is half a character
USER_NAME, KEY_NAME = 150, 100  # characters
MOST_KEYS = 100  # good ones of a user: requests are counted by key, so who has any number of them has no limit
USED_EVERY_S = 60  # how exactly it is noted when a key was used


def draft_user(*, name: str, teams: Collection[str] = ()) -> User:
    """A user as there could be one, not stored; so that nobody is asked for the password of one that there cannot be.
    Unicode's compatible forms of a name are one (NFKC), as on the sign-in page. Conflict where the name is taken, Invalid where
    it is none, NotFound where there is no such team."""
    name = User.normalize_username(name)
    odd = next((character for character in name if not NAMED.match(character)), None)
    if odd or not 0 < len(name) <= USER_NAME:
        why = f"{odd!r} stands in it" if odd else f"it has {len(name)} characters" if name else "it is empty"
        raise errors.Invalid(
            f"{name[:40]!r} cannot be a user's name: {why}.",
            hint=f"Give 1 to {USER_NAME} letters, digits, and @ . + - _, as ann.smith has.",
        )
    if User.objects.filter(username=name).exists():
        raise errors.Conflict(f"There is a user {name!r} already.", hint="Choose another name.")
    for team in teams:
        _team(team)
    return User(username=name)


def create_user(*, name: str, role: Role, password: str | None = None, teams: Collection[str] = ()) -> User:
    """A user; without a password one that signs in with machine keys only. Refused as by `draft_user`."""
    with transaction.atomic():
        user = draft_user(name=name, teams=teams)
        if password is not None:
            try:
                validate_password(password, user)
            except ValidationError as fault:
                raise errors.Invalid(" ".join(fault.messages)) from fault
        user.set_password(password)
        user.save()
        user.groups.set([_team(team) for team in teams])
        audit.record(kind="user.created", subject=_named(user), after={"role": role, "teams": list(teams)})
        _give_role(user, role)
    return user


def set_role(*, user: User, role: Role) -> None:
    """Admins are superusers, who may use the admin pages; others are not. Conflict where it would leave no admin."""
    with transaction.atomic():
        if role != Role.ADMIN:
            keep_an_admin(without=[user])
        before = role_of(User.objects.select_related("account").get(id=user.id))
        if before != role:
            audit.record(kind="role.changed", subject=_named(user), before={"role": before}, after={"role": role})
        _give_role(user, role)


def _give_role(user: User, role: Role) -> None:
    Account.objects.update_or_create(user=user, defaults={"role": role})
    user.is_superuser = user.is_staff = role == Role.ADMIN
    user.save(update_fields=["is_superuser", "is_staff"])


def keep_an_admin(*, without: Collection[User]) -> None:
    """Conflict where these are all the active admins that there are. Call it in the transaction that makes them none, so that
    of two who take each other away one is refused."""
    with transaction.atomic():
        admins = User.objects.select_for_update().filter(is_superuser=True, is_active=True).order_by("id")
        left = {admin.pk: admin.username for admin in admins}
    if left and left.keys() <= {user.pk for user in without}:
        raise errors.Conflict(
            f"No admin would be left without {', '.join(left.values())}.",
            hint=f"Make somebody else an admin first: {invocation.command('fleet_user', 'role', 'NAME', 'admin')}",
        )


def set_execute(*, user: User, may: bool) -> None:
    """Give the user plan.execute, or take it away; `why_executes` says whether they have it from elsewhere all the same."""
    permission = Permission.objects.get(codename="plan_execute", content_type__app_label="fleet")
    with transaction.atomic():
        before = user.user_permissions.filter(pk=permission.pk).exists()
        if before != may:
            (user.user_permissions.add if may else user.user_permissions.remove)(permission)
            audit.record(
                kind="role.changed",
                subject=_named(user),
                before={"plan.execute": before},
                after={"plan.execute": may},
            )


def why_executes(user: User) -> str:
    """By what, other than a grant of their own, the user may run code: "an admin may", "team ops may"; empty: by nothing."""
    if role_of(user) == Role.ADMIN:
        return "an admin may"
    named = {"permissions__codename": "plan_execute", "permissions__content_type__app_label": "fleet"}
    teams = sorted(user.groups.filter(**named).values_list("name", flat=True))
    return f"{'team' if len(teams) == 1 else 'teams'} {', '.join(teams)} may" if teams else ""


def set_active(*, user: User, active: bool) -> None:
    """Let a user in, or not any more: sessions end and keys are refused at once. Conflict where it would leave no admin."""
    with transaction.atomic():
        if not active:
            keep_an_admin(without=[user])
        user.is_active = active
        user.save(update_fields=["is_active"])
        audit.record(kind="user.enabled" if active else "user.disabled", subject=_named(user))
        if not active:
            tokens.end(user=user)


def set_password(*, user: User, password: str) -> None:
    """A new password; whoever was signed in with the old one is not any more."""
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])
        password_changed(user=user)


def password_changed(*, user: User) -> None:
    """What belongs to a new password, wherever it was given: an entry, and the end of all sessions. Machine keys stay: programs
    go on, and each is revoked by itself. Browsers are signed out by Django, but for the one in which it was changed."""
    with transaction.atomic():
        keys = Key.objects.filter(user=user, revoked_at=None).exclude(expires_at__lte=Now()).count()
        audit.record(kind="user.password_changed", subject=_named(user), data={"keys_that_stay": keys})
        tokens.end(user=user)


def find_user(name: str) -> User:
    named = User.normalize_username(name)
    found = User.objects.select_related("account").filter(username=named).first()
    if found is None:
        raise errors.NotFound(
            f"There is no user {name[:40]!r}.", hint=f"See: {invocation.command('fleet_user', 'list')}"
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key and, this once, its text."""

    key: Key
    text: str


def create_key(
    *, user: User, name: str, scopes: Collection[str], expires_at: datetime | None = None, maker: UUID | None = None
) -> NewKey:
    """A machine key with which a program acts for the user, within these scopes. `name` says what it is for. `maker` is the key
    that made it, with which it is revoked; Conflict where that one was revoked meanwhile."""
    if not name.strip() or STEERING.search(name) or len(name) > KEY_NAME:
        raise errors.Invalid(
            f"{name[:40]!r} cannot be a key's name.",
            hint=f"Say in 1 to {KEY_NAME} characters, on one line, what it is for.",
            pointer="/name",
        )
    if unknown := sorted(set(scopes) - SCOPES) or (["none"] if not scopes else []):
        raise errors.Invalid(f"{', '.join(unknown)}: no such scope.", hint=f"There are {', '.join(sorted(SCOPES))}.")
    if expires_at is not None and expires_at <= timezone.now():
        raise errors.Invalid(
            "The key would have expired already.", hint="Give a time to come, or none.", pointer="/expires_at"
        )
    if Key.objects.filter(user=user, revoked_at=None).exclude(expires_at__lte=Now()).count() >= MOST_KEYS:
        raise errors.Conflict(
            f"{user.username} has {MOST_KEYS} machine keys, which is all.", hint="Revoke those that nobody uses."
        )
    prefix = PREFIX + secrets.token_hex(4)
    text = f"{prefix}_{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        if maker is not None and not Key.objects.select_for_update().filter(id=maker, revoked_at=None).exists():
            raise errors.Conflict("The key that makes this one is revoked.")
        key = Key.objects.create(
            user=user,
            name=name,
            prefix=prefix,
            digest=_digest(text),
            scopes=sorted(set(scopes)),
            expires_at=expires_at,
            maker_id=maker,
        )
        told = {"scopes": key.scopes, "expires_at": expires_at.isoformat() if expires_at else None}
        audit.record(kind="key.created", subject=key.ref, after={**_key(key), **told})
    return NewKey(key=key, text=text)


def revoke_key(*, key: Key) -> None:
    """It is refused from now on, and so are the keys that were made with it, and with those. Twice is once."""
    with transaction.atomic():
        found = list(Key.objects.select_for_update(of=("self",)).select_related("user").filter(id=key.id))
        while found:
            for one in found:
                if Key.objects.filter(id=one.id, revoked_at=None).update(revoked_at=Now()):
                    audit.record(kind="key.revoked", subject=one.ref, before=_key(one))
            makers = [one.id for one in found]
            found = list(
                Key.objects.select_for_update(of=("self",))
                .select_related("user")
                .filter(maker__in=makers)
                .order_by("id")
            )


def key_of(text: str) -> Key:
    """The good key that this text is; NotSignedIn where there is none."""
    prefix = "_".join(text.split("_", 2)[:2])
    found = next(iter(Key.objects.raw(statements.read("fleet", "key_of"), {"prefix": prefix[:12]})), None)
    if found is None or not hmac.compare_digest(found.digest, _digest(text)):
        raise tokens.NotSignedIn(
            "There is no such key.",
            hint="Make one: " + invocation.command("fleet_key", "create", "NAME", "--user", "USER", "--scope", "read"),
            over_http="See that it is whole, or make one: POST /api/v1/keys.",
        )
    now = timezone.now()
    if found.revoked_at is not None or (found.expires_at is not None and found.expires_at <= now):
        raise tokens.NotSignedIn(f"Key {found.prefix} {'was revoked' if found.revoked_at else 'has expired'}.")
    found.user = request_users.owner(found)
    if not found.user.is_active:
        raise tokens.NotSignedIn(f"Key {found.prefix} is of a user who is not active.")
    if found.used_at is None or (now - found.used_at).total_seconds() > USED_EVERY_S:
        Key.objects.filter(id=found.id).update(used_at=Now())
        if found.used_at is None or _hour(found.used_at) != _hour(now):
            caller.identify(name=f"key:{found.prefix}", user=found.user_id)  # so that the entry says who used it
            audit.record(kind="key.used", subject=found.ref)
    return found


def described(user: User) -> dict[str, Any]:
    """`{name, role, active, executes, teams, created_at, last_sign_in_at}`"""
    return {
        "name": user.username,
        "role": role_of(user),
        "active": user.is_active,
        "executes": user.has_perm("fleet.plan_execute"),
        "teams": sorted(user.groups.values_list("name", flat=True)),
        "created_at": user.date_joined.isoformat(),
        "last_sign_in_at": user.last_login.isoformat() if user.last_login else None,
    }


def _named(user: User) -> str:
    """As the audit trail calls whom something is about."""
    return f"user:{user.username}"


def _key(key: Key) -> dict[str, str]:
    """By what people know it: the actor of what it does is `key:` and its prefix."""
    return {"user": key.user.username, "name": key.name, "prefix": key.prefix}


def _team(name: str) -> Group:
    found = Group.objects.filter(name=name).first()
    if found is None:
        raise errors.NotFound(f"There is no team {name!r}.", hint="Make it in the admin, under Groups.")
    return found


def _hour(moment: datetime) -> datetime:
    """In each of which the trail tells once that a key is used, so that it grows by the hour and not by the request."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
