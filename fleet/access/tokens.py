"""Access and refresh tokens (JWT) of sessions.

An access token says whose it is and of which session, and nothing of roles: those are read from the database at each request.
A refresh token is good once. One that is shown again has been stolen from somebody, so its session ends for all who have it
(RFC 9700, section 4.14.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenError

from fleet import audit, errors, ids
from fleet.access import request_users, signing
from fleet.access.models import Session
from fleet.postgres import statements

KEPT = timedelta(days=7)  # how long a session that is over can still be looked at

SESSION_CLAIM = "sid"
T = TypeVar("T", bound="_Token")


class _Token(tokens.Token):
    def get_token_backend(self) -> TokenBackend:
        return signing.backend()


class AccessToken(_Token):
    token_type = "access"
    lifetime = timedelta(minutes=settings.FLEET_ACCESS_MINUTES)


class RefreshToken(_Token):
    token_type = "refresh"
    lifetime = timedelta(days=settings.FLEET_REFRESH_DAYS)


class NotSignedIn(errors.FleetError):
    """The token is not good, or not any more."""

    code = "not_authenticated"
    status = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What a client keeps. `expires_in` is the access token's life in seconds."""

    access: str
    refresh: str
    expires_in: int


def begin(*, user: User, address: str = "") -> Pair:
    """A session for somebody who has just shown who they are."""
    refresh = RefreshToken()
    session = Session.objects.create(
        user=user,
        refresh=refresh["jti"],
        expires_at=refresh.current_time + refresh.lifetime,
        address=address or None,
    )
    return _pair(refresh, session)


def renew(*, refresh: str) -> Pair:
    """The next pair of a session. NotSignedIn for a token that is not its last one, whose session is ended then."""
    shown = _read(RefreshToken, refresh)
    following = RefreshToken()
    with transaction.atomic():
        session = Session.objects.select_for_update(of=("self",)).select_related("user").filter(id=_sid(shown)).first()
        good = session is not None and session.ended_at is None and session.user.is_active
        reused = good and session is not None and session.refresh != shown["jti"]
        if session is not None and good:
            if reused:
                session.ended_at = Now()
                audit.record(
                    kind="token.reused",
                    outcome="denied",
                    subject=f"user:{session.user.username}",
                    data={"session": ids.encode(ids.SESSION, session.id)},
                )
            else:
                session.refresh = following["jti"]
                session.used_at, session.expires_at = Now(), following.current_time + following.lifetime
            session.save()
    if session is None or not good:
        raise NotSignedIn("This session has ended.", hint="Sign in again.")
    if reused:
        raise Reused("This refresh token was used before, so its session has been ended.", hint="Sign in again.")
    return _pair(following, session)


class Reused(NotSignedIn):
    """Somebody shows a refresh token that was used before."""


def session(*, access: str) -> Session:
    """The living session of an access token, with its user; NotSignedIn where there is none."""
    shown = _read(AccessToken, access)
    rows = Session.objects.raw(statements.read("fleet", "session_of"), {"session": _sid(shown)})
    found = next(iter(rows), None)
    if found is not None:
        found.user = request_users.owner(found)
    if found is None or not found.user.is_active or str(found.user_id) != shown.get("user_id"):
        raise NotSignedIn("This session has ended.", hint="Sign in again.")
    return found


def of_refresh(*, refresh: str) -> UUID:
    """The session that a refresh token is of."""
    return _sid(_read(RefreshToken, refresh))


def end(*, user: User, session: UUID | None = None) -> int:
    """End one session of a user, or all of them; the number that were alive. Their access tokens are good for nothing
    from now on."""
    alive = Session.objects.filter(user=user, ended_at=None)
    with transaction.atomic():
        ended = (alive if session is None else alive.filter(id=session)).update(ended_at=Now())
        if ended:
            audit.record(kind="sign_out", subject=f"user:{user.username}", data={"sessions": ended})
    return ended


def _pair(refresh: RefreshToken, session: Session) -> Pair:
    access = AccessToken()
    for token in (refresh, access):
        token["user_id"], token[SESSION_CLAIM] = str(session.user_id), ids.encode(ids.SESSION, session.id)
    return Pair(access=str(access), refresh=str(refresh), expires_in=int(access.lifetime.total_seconds()))


def _read(kind: type[T], text: str) -> T:
    try:
        return kind(text)  # type: ignore[arg-type]
    except (TokenError, ValueError, TypeError, OverflowError) as fault:
        raise NotSignedIn(f"{str(fault).rstrip('.')}.", hint="Sign in again, or renew it.") from None


def _sid(token: _Token) -> UUID:
    try:
        return ids.decode(ids.SESSION, str(token.get(SESSION_CLAIM, "")))
    except errors.Invalid:
        raise NotSignedIn("The token names no session.", hint="Sign in again.") from None


def outdated_sessions(*, now: datetime) -> QuerySet[Session]:
    """Sessions that ended or expired more than KEPT ago."""
    return Session.objects.filter(Q(expires_at__lt=now - KEPT) | Q(ended_at__lt=now - KEPT))
