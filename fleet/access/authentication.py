"""Authentication by bearer token (access token, machine key or lease token) or by a browser's session cookie."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from rest_framework.authentication import BaseAuthentication
from rest_framework.authentication import SessionAuthentication as DjangoSession
from rest_framework.request import Request

from fleet import caller, ids
from fleet.access import lease_tokens, operations, tokens
from fleet.access.actor import Actor, role_of
from fleet.access.models import Role

SCHEME = "bearer"
LEASE_PREFIX = f"{ids.SORTIE}_"


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer …`. The prefix of a token shows its kind."""

    def authenticate(self, request: Request) -> tuple[User | AnonymousUser, Actor] | None:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != SCHEME:
            return None
        actor = _bearer(text.strip())
        caller.identify(name=actor.name, user=actor.user.id if actor.user else None)
        return actor.user or AnonymousUser(), actor

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="fleet"'


class SessionAuthentication(DjangoSession):
    """The session cookie of a browser that is signed in to the admin. Writes need its CSRF token."""

    def authenticate(self, request: Request) -> tuple[User, Actor] | None:
        origin = request.headers.get("Origin")
        if origin and origin.partition("//")[2] != request.get_host():
            return None  # pages of other sites must send a token
        authenticated: Any = super().authenticate(request)
        if authenticated is None:
            return None
        user: User = authenticated[0]
        caller.identify(name=f"user:{user.username}", user=user.id)
        return user, Actor(name=f"user:{user.username}", role=role_of(user), user=user)


def _bearer(text: str) -> Actor:
    if text.startswith(operations.KEY_PREFIX):
        key = operations.authenticate_key(text)
        return Actor(
            name=f"key:{key.prefix}",
            role=role_of(key.user),
            user=key.user,
            key=key.id,
            scopes=frozenset(key.scopes),
            teams=getattr(key, "teams", None),
        )
    if text.startswith(LEASE_PREFIX):  # whether the lease is still held is checked by the operation
        if not lease_tokens.is_known(text):
            raise tokens.NotSignedIn("Unknown lease token.", hint="Claim a sortie; the response contains the token.")
        return Actor(name=f"lease:{text.rpartition('.')[0][:45]}", role=Role.AGENT, user=None, lease=text)
    session = tokens.session(access=text)
    return Actor(
        name=f"user:{session.user.username}",
        role=role_of(session.user),
        user=session.user,
        session=session.id,
        teams=getattr(session, "teams", None),
    )
