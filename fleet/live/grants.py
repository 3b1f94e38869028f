"""What somebody's right to listen rests upon, so that it can be asked again while they listen."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.utils import timezone

from fleet import errors
from fleet.access.actor import Actor, role_of
from fleet.access.models import Key, Session
from fleet.access.tokens import NotSignedIn


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A user, and the session of tokens, the machine key or the session of a browser that they showed."""

    user: int
    session: UUID | None = None
    key: UUID | None = None
    browser: str = ""  # Django's session key

    @classmethod
    def of(cls, who: Actor, *, browser: str) -> Grant:
        if who.user is None or not (who.session or who.key or browser):
            raise errors.Forbidden(
                "Streams are for people and programs.", hint="Show an access token or a machine key."
            )
        own = "" if who.session or who.key else browser
        return cls(user=who.user.id, session=who.session, key=who.key, browser=own)

    def actor(self) -> Actor:
        """Who it is, as the database says now. NotSignedIn where the session has ended, the key has been revoked, or the
        user is not active."""
        if self.key is not None:
            return self._of_key(self.key)
        if self.session is not None:
            alive = Session.objects.select_related("user__account").filter(
                id=self.session, ended_at=None, expires_at__gt=timezone.now()
            )
            found = alive.first()
            user = found.user if found else None
        else:
            request = HttpRequest()
            request.session = SessionStore(self.browser)
            asked = get_user(request)
            user = asked if isinstance(asked, User) else None
        if user is None or not user.is_active or user.id != self.user:
            raise NotSignedIn("This session has ended.", hint="Sign in again.")
        return Actor(name=f"user:{user.username}", role=role_of(user), user=user, session=self.session)

    def _of_key(self, id: UUID) -> Actor:
        key = Key.objects.select_related("user__account").filter(id=id, revoked_at=None).first()
        expired = key is not None and key.expires_at is not None and key.expires_at <= timezone.now()
        if key is None or expired or not key.user.is_active:
            raise NotSignedIn("This key is not good any more.", hint="Make another one.")
        return Actor(
            name=f"key:{key.prefix}", role=role_of(key.user), user=key.user, key=key.id, scopes=frozenset(key.scopes)
        )
