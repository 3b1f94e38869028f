"""Access and refresh tokens (JWT) of sessions.

An access token names its user and its session, but no role: roles are read from the database at each request. A refresh
token works once. If it is used again, it has been stolen, so its session ends for thief and owner alike (RFC 9700,
section 4.14.2).
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
from fleet.access import request_users, sessions, signing
from fleet.access.models import Session
from fleet.postgres import statements

RETENTION = timedelta(days=7)  # of ended sessions

SESSION_CLAIM = "sid"
Token = TypeVar("Token", bound="_Token")


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
    """The token is invalid or has expired."""

    code = "not_authenticated"
    status = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """An access token and a refresh token. `expires_in` is the lifetime of the access token in seconds."""

    access: str
    refresh: str
    expires_in: int


def begin(*, user: User, address: str = "") -> TokenPair:
    """Start a session for a user who has just signed in.

    `user`: as read when the password was checked. Raises NotSignedIn if the user has been disabled or has another
    password since. The lock orders this before or after such a change, which ends all sessions that it finds.
    """
    refresh = RefreshToken()
    with transaction.atomic():
        stored = User.objects.select_for_update(no_key=True).filter(pk=user.pk, is_active=True)
        if stored.values_list("password", flat=True).first() != user.password:
            raise NotSignedIn("The user was changed during this sign-in.", hint="Sign in again.")
        session = Session.objects.create(
            user=user,
            refresh=refresh["jti"],
            expires_at=refresh.current_time + refresh.lifetime,
            address=address or None,
        )
    return _pair(refresh, session)


def renew(*, refresh: str) -> TokenPair:
    """Exchange a refresh token for the session's next pair. Using a token twice ends the session and raises Reused."""
    current = _read(RefreshToken, refresh)
    successor = RefreshToken()
    with transaction.atomic():
        rows = Session.objects.select_for_update(of=("self",)).select_related("user")
        session = rows.filter(id=_session_id(current)).first()
        if session is None or session.ended_at is not None or not session.user.is_active:
            raise NotSignedIn("This session has ended.", hint="Sign in again.")
        reused = session.refresh != current["jti"]
        if reused:
            session.ended_at = Now()
            audit.record(
                kind="token.reused",
                outcome="denied",
                subject=f"user:{session.user.username}",
                data={"session": ids.encode(ids.SESSION, session.id)},
            )
        else:
            session.refresh = successor["jti"]
            session.used_at, session.expires_at = Now(), successor.current_time + successor.lifetime
        session.save()
    if reused:  # after the commit: an error within the transaction would keep the session alive
        raise Reused("This refresh token was already used, so its session has been ended.", hint="Sign in again.")
    return _pair(successor, session)


class Reused(NotSignedIn):
    """A refresh token was used a second time."""


def session(*, access: str) -> Session:
    """The session of an access token, with its user. Raises NotSignedIn if it has ended."""
    token = _read(AccessToken, access)
    rows = Session.objects.raw(statements.read("fleet", "session_by_id"), {"session": _session_id(token)})
    row = next(iter(rows), None)
    if row is not None:
        row.user = request_users.owner(row)
    if row is None or not row.user.is_active or str(row.user_id) != token.get("user_id"):
        raise NotSignedIn("This session has ended.", hint="Sign in again.")
    return row


def session_of_refresh(*, refresh: str) -> UUID:
    """The id of the session of a refresh token."""
    return _session_id(_read(RefreshToken, refresh))


def end(*, user: User, session: UUID | None = None) -> int:
    """End one session of a user, or all of them, also those of browsers. Returns the number ended.

    Tokens and cookies of these sessions stop working at once.
    """
    open_sessions = Session.objects.filter(user=user, ended_at=None)
    with transaction.atomic():
        ended = (open_sessions if session is None else open_sessions.filter(id=session)).update(ended_at=Now())
        if session is None:
            ended += sessions.end_of_browsers(user)
        if ended:
            audit.record(kind="sign_out", subject=f"user:{user.username}", data={"sessions": ended})
    return ended


def _pair(refresh: RefreshToken, session: Session) -> TokenPair:
    access = AccessToken()
    for token in (refresh, access):
        token["user_id"], token[SESSION_CLAIM] = str(session.user_id), ids.encode(ids.SESSION, session.id)
    return TokenPair(access=str(access), refresh=str(refresh), expires_in=int(access.lifetime.total_seconds()))


def _read(kind: type[Token], text: str) -> Token:
    try:
        return kind(text)  # type: ignore[arg-type]
    except (TokenError, ValueError, TypeError, OverflowError) as error:
        raise NotSignedIn(f"{str(error).rstrip('.')}.", hint="Sign in again, or refresh it.") from None


def _session_id(token: _Token) -> UUID:
    try:
        return ids.decode(ids.SESSION, str(token.get(SESSION_CLAIM, "")))
    except errors.Invalid:
        raise NotSignedIn("The token contains no session id.", hint="Sign in again.") from None


def outdated_sessions(*, now: datetime) -> QuerySet[Session]:
    """Sessions that ended or expired more than RETENTION ago."""
    return Session.objects.filter(Q(expires_at__lt=now - RETENTION) | Q(ended_at__lt=now - RETENTION))
