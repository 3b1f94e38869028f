"""Lease tokens: whoever shows one acts for one attempt, as long as that is the running one.

An agent from outside is given one with each claim, and what the fleet's own agents start finds one in its environment. A
token names the sortie and the attempt, so it is the fence too. Only its digest is stored, in the attempt's row.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from uuid import UUID

from django.db import connection

from fleet import errors, ids
from fleet.access import lease_tokens
from fleet.postgres import statements
from missions.models import Attempt, Sortie

BYTES = 24  # of randomness


class StaleLease(errors.Conflict):
    """The attempt that the token stands for is not the running one any more."""


def make(*, sortie: UUID, attempt: int) -> str:
    """A new token: `srt_….1.…`."""
    return f"{ids.encode(ids.SORTIE, sortie)}.{attempt}.{secrets.token_urlsafe(BYTES)}"


def give(*, sortie: UUID, attempt: int) -> str:
    """A token for what an attempt starts, which from now on is the attempt's only one; empty where the attempt is not
    the running one any more. For a transaction of its own: see the statement."""
    token = make(sortie=sortie, attempt=attempt)
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.engine", "entitle"),
            {"sortie": sortie, "attempt": attempt, "digest": digest(token)},
        )
        return token if cursor.rowcount else ""


def attempt(token: str) -> tuple[UUID, int]:
    """The sortie and the number that a token names; Invalid where it is none."""
    sortie, _, rest = token.partition(".")
    number = rest.partition(".")[0]
    if not token.isascii() or not number.isdigit() or len(number) > 9:
        raise errors.Invalid("This is no lease token.", hint="One looks like srt_….1.… and comes with a claim.")
    return ids.decode(ids.SORTIE, sortie), int(number)


def mission(token: str) -> UUID:
    """The mission of the attempt that a good token stands for; StaleLease where that is not the running one."""
    sortie, number = attempt(token)
    running = Sortie.objects.filter(id=sortie, state="running", attempt=number)
    found = running.values_list("mission", flat=True).first()
    if found is None:
        raise StaleLease(f"Attempt {number} of {ids.encode(ids.SORTIE, sortie)} is not the running one any more.")
    return found


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def is_of(token: str, stored: str | None) -> bool:
    """Whether this is the token of that digest."""
    return stored is not None and hmac.compare_digest(digest(token), stored)


def fits(token: str) -> bool:
    """Whether a token was given out, be its attempt still the running one or not."""
    try:
        sortie, number = attempt(token)
    except errors.Invalid:
        return False
    stored = Attempt.objects.filter(sortie=sortie, number=number).values_list("token", flat=True).first()
    return is_of(token, stored)


lease_tokens.register(fits)
