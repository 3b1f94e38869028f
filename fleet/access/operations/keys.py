"""Operations on machine keys, with which programs act for a user."""

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

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from fleet import audit, caller, errors
from fleet.access import request_users, tokens
from fleet.access.models import Key
from fleet.access.rules import SCOPES
from fleet.console import invocation
from fleet.postgres import statements

KEY_PREFIX = "flk_"
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and unpaired surrogates
MAX_NAME = 100  # characters
MAX_KEYS = 100  # valid keys per user: requests are counted by key, so without a maximum there would be no rate limit
USED_RESOLUTION_S = 60  # `used_at` of a key is updated at most this often


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
    if not name.strip() or UNPRINTABLE.search(name) or len(name) > MAX_NAME:
        raise errors.Invalid(
            f"{name[:40]!r} is not a valid key name.",
            hint=f"Describe what the key is for, in 1 to {MAX_NAME} characters on one line.",
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
    prefix = KEY_PREFIX + secrets.token_hex(4)
    text = f"{prefix}_{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        list(User.objects.select_for_update(no_key=True).filter(id=user.pk).values_list("id"))  # one key at a time
        if Key.objects.filter(user=user, revoked_at=None).exclude(expires_at__lte=Now()).count() >= MAX_KEYS:
            raise errors.Conflict(
                f"{user.username} has {MAX_KEYS} machine keys, which is the maximum.", hint="Revoke unused ones."
            )
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
        audit.record(kind="key.created", subject=key.ref, after={**_description(key), **limits})
    return CreatedKey(key=key, text=text)


def revoke_key(*, key: Key) -> None:
    """Revoke a key and, recursively, the keys that were created with it. Idempotent."""
    with transaction.atomic():
        keys = list(Key.objects.select_for_update(of=("self",)).select_related("user").filter(id=key.id))
        while keys:
            for row in keys:
                if Key.objects.filter(id=row.id, revoked_at=None).update(revoked_at=Now()):
                    audit.record(kind="key.revoked", subject=row.ref, before=_description(row))
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


def serialize_key(key: Key) -> dict[str, Any]:
    """`{id, name, prefix, user, scopes, created_at, expires_at, used_at, revoked_at}`"""

    def iso(value: Any) -> str | None:
        return value.isoformat() if value else None

    return {
        "id": key.ref, "name": key.name, "prefix": key.prefix, "user": key.user.username, "scopes": key.scopes,
        "created_at": iso(key.created_at), "expires_at": iso(key.expires_at), "used_at": iso(key.used_at),
        "revoked_at": iso(key.revoked_at),
    }  # fmt: skip


def _description(key: Key) -> dict[str, str]:
    """The key as the audit trail describes it. Actions of the key itself have the actor `key:PREFIX`."""
    return {"user": key.user.username, "name": key.name, "prefix": key.prefix}


def _hour(moment: datetime) -> datetime:
    """The hour of a moment. A key's use is audited once an hour, not at each request."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
