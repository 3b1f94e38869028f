"""Lease tokens: each authenticates one attempt, as long as that attempt is the running one.

An external agent gets one with each claim. A workload that the fleet's own agents start finds one in its environment. A
token contains the sortie and the attempt number, so it also serves as the fence. Only its digest is stored, in the
attempt's row.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F, signals

from fleet import errors, ids
from fleet.access import lease_tokens
from fleet.access.actor import role_of
from fleet.access.rules import RULES
from fleet.postgres import statements
from missions.models import Attempt, Sortie
from missions.states import SortieState

BYTES = 24  # of randomness


class StaleLease(errors.Conflict):
    """The attempt of the token is no longer the running one."""


def make(*, sortie: UUID, attempt: int) -> str:
    """A new token: `srt_….1.…`."""
    return f"{ids.encode(ids.SORTIE, sortie)}.{attempt}.{secrets.token_urlsafe(BYTES)}"


def issue(*, sortie: UUID, attempt: int) -> str:
    """Issue a token for the workload of an attempt; it replaces any earlier one. Empty if the attempt no longer runs.

    Call it outside a transaction: its statement (sql/set_token.sql) commits without waiting for the disk.
    """
    token = make(sortie=sortie, attempt=attempt)
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions", "set_token"),
            {"sortie": sortie, "attempt": attempt, "digest": digest(token)},
        )
        return token if cursor.rowcount else ""


def parse(token: str) -> tuple[UUID, int]:
    """The sortie and the attempt number that a token contains. Raises Invalid if the text is not a token."""
    sortie, _, rest = token.partition(".")
    number = rest.partition(".")[0]
    if not token.isascii() or not number.isdigit() or len(number) > 9:
        raise errors.Invalid(
            "This is not a lease token.",
            hint="A lease token looks like srt_….1.… and is part of the response to a claim.",
        )
    return ids.decode(ids.SORTIE, sortie), int(number)


def mission(token: str) -> UUID:
    """The mission of a verified token's attempt; StaleLease if that attempt is no longer the running one."""
    sortie, number = parse(token)
    running = Sortie.objects.filter(id=sortie, state=SortieState.RUNNING, attempt=number)
    mission_id = running.values_list("mission", flat=True).first()
    if mission_id is None:
        raise StaleLease(f"Attempt {number} of {ids.encode(ids.SORTIE, sortie)} is no longer the running one.")
    return mission_id


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def matches(token: str, stored: str | None) -> bool:
    """Whether `stored` is the digest of this token."""
    return stored is not None and hmac.compare_digest(digest(token), stored)


def is_genuine(token: str) -> bool:
    """Whether a token is genuine, even if its attempt is no longer the running one.

    False if a user's external agent has it, and the user was disabled or may no longer run sorties.
    """
    try:
        sortie, number = parse(token)
    except errors.Invalid:
        return False
    attempts = Attempt.objects.filter(sortie=sortie, number=number)
    stored, user = attempts.values_list("token", "agent__by").first() or (None, None)
    return matches(token, stored) and (user is None or _may_fly(user))


def _may_fly(user: int) -> bool:
    """Whether a user may still run sorties as an external agent."""
    row = User.objects.select_related("account").filter(id=user, is_active=True).first()
    return row is not None and role_of(row) in RULES["sorties.fly"].roles


def _revoke_tokens(instance: User, **_: object) -> None:
    """Revoke the tokens of a user who is being deleted, after which nothing shows that the agents were theirs."""
    running = Sortie.objects.filter(state=SortieState.RUNNING, agent__by=instance)
    Attempt.objects.filter(sortie__in=running, number=F("sortie__attempt")).update(token=None)


lease_tokens.register(is_genuine)
signals.pre_delete.connect(_revoke_tokens, sender=User, dispatch_uid="missions.attempt_tokens")
