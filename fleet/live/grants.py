"""The credential behind a stream, which is checked again while the stream is open."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone

from fleet import errors
from fleet.access.actor import Actor, role_of
from fleet.access.models import Key, Session
from fleet.access.sessions import SessionStore
from fleet.access.tokens import NotSignedIn


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A user, with the token session, machine key or browser session that authenticated it."""

    user: int
    session: UUID | None = None
    key: UUID | None = None
    browser: str = ""  # Django's session key

    @classmethod
    def of(cls, actor: Actor, *, browser: str) -> Grant:
        if actor.user is None or not (actor.session or actor.key or browser):
            raise errors.Forbidden("A lease token cannot open a stream.", hint="Use an access token or a machine key.")
        session_key = "" if actor.session or actor.key else browser
        return cls(user=actor.user.id, session=actor.session, key=actor.key, browser=session_key)

    def actor(self) -> Actor:
        """The caller, read from the database now.

        Raises NotSignedIn if the session has ended, the key is no longer valid, or the user is not active.
        """
        if self.key is not None:
            return self._of_key(self.key)
        if self.session is not None:
            sessions = Session.objects.select_related("user__account").filter(
                id=self.session, ended_at=None, expires_at__gt=timezone.now()
            )
            session = sessions.first()
            user = session.user if session else None
        else:
            request = HttpRequest()
            request.session = SessionStore(self.browser)
            browser_user = get_user(request)
            user = browser_user if isinstance(browser_user, User) else None
        if user is None or not user.is_active or user.id != self.user:
            raise NotSignedIn("This session has ended.", hint="Sign in again.")
        return Actor(name=f"user:{user.username}", role=role_of(user), user=user, session=self.session)

    def _of_key(self, id: UUID) -> Actor:
        key = Key.objects.select_related("user__account").filter(id=id, revoked_at=None).first()
        expired = key is not None and key.expires_at is not None and key.expires_at <= timezone.now()
        if key is None or expired or not key.user.is_active:
            raise NotSignedIn("This machine key is no longer valid.", hint="Use another one.")
        return Actor(
            name=f"key:{key.prefix}", role=role_of(key.user), user=key.user, key=key.id, scopes=frozenset(key.scopes)
        )
