"""One-use tickets, with which a browser opens a stream where it can send no headers."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from fleet import caller
from fleet.access.actor import Actor
from fleet.access.tokens import NotSignedIn
from fleet.live import paths
from fleet.live.grants import Grant
from fleet.live.models import Ticket

PREFIX = "tkt_"
LIFE_S = 30
SHOWN = "fleet.ticket"  # where in the ASGI scope it is


def issue(*, grant: Grant, path: str) -> str:
    """A ticket for this path; the path must be one of a stream."""
    paths.check(path)
    Ticket.objects.filter(expires_at__lt=timezone.now()).delete()
    text = PREFIX + secrets.token_urlsafe(32)
    Ticket.objects.create(
        digest=_digest(text), path=path, user_id=grant.user, session=grant.session, key=grant.key,
        browser=grant.browser, expires_at=timezone.now() + timedelta(seconds=LIFE_S),
    )  # fmt: skip
    return text


def redeem(*, text: str, path: str) -> Grant:
    """Whose it is. It is good for nothing from then on, also where it is refused (NotSignedIn)."""
    with transaction.atomic():
        found = Ticket.objects.select_for_update().filter(digest=_digest(text)).first()
        if found is not None:
            found.delete()
    if found is None or found.expires_at <= timezone.now() or found.path != path:
        raise NotSignedIn(
            "There is no such ticket; it was used or is too old, or it is for another path.", hint="Get another one."
        )
    return Grant(user=found.user_id, session=found.session, key=found.key, browser=found.browser)


def hide(scope: MutableMapping[str, Any]) -> None:
    """Take the ticket out of the address before anything can write the address down: the server's own log reads this very
    scope when it says that somebody came."""
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    shown = [value for name, value in pairs if name == "ticket"]
    if shown:
        scope["query_string"] = urlencode([pair for pair in pairs if pair[0] != "ticket"]).encode()
        scope[SHOWN] = shown[0]


class TicketAuthentication(BaseAuthentication):
    """Of the views that are streams. Keeps `grant`, upon which the right rests that the ticket stands for."""

    grant: Grant | None = None

    def authenticate(self, request: Request) -> tuple[User, Actor] | None:
        scope = getattr(request._request, "scope", {})
        if not (text := scope.get(SHOWN)):
            return None
        self.grant = redeem(text=text, path=scope.get(paths.ASKED, request.path))
        actor = self.grant.actor()
        assert actor.user is not None
        caller.identify(name=actor.name, user=actor.user.id)
        return actor.user, actor


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
