"""One-time tickets, which let a browser open a stream when it cannot set headers."""

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
LIFETIME_S = 30
SCOPE_KEY = "fleet.ticket"  # of the ticket in the ASGI scope


def issue(*, grant: Grant, path: str) -> str:
    """Create a ticket for the path of a stream. Raises Invalid for other paths."""
    paths.check(path)
    Ticket.objects.filter(expires_at__lt=timezone.now()).delete()
    text = PREFIX + secrets.token_urlsafe(32)
    Ticket.objects.create(
        digest=_digest(text), path=path, user_id=grant.user, session=grant.session, key=grant.key,
        browser=grant.browser, expires_at=timezone.now() + timedelta(seconds=LIFETIME_S),
    )  # fmt: skip
    return text


def redeem(*, text: str, path: str) -> Grant:
    """Use up a ticket and return its grant. A ticket that is refused (NotSignedIn) is used up too."""
    with transaction.atomic():
        ticket = Ticket.objects.select_for_update().filter(digest=_digest(text)).first()
        if ticket is not None:
            ticket.delete()
    if ticket is None or ticket.expires_at <= timezone.now() or ticket.path != path:
        raise NotSignedIn(
            "The ticket is unknown, used, expired, or for another path.", hint="Get a new one: POST /api/v1/tickets."
        )
    return Grant(user=ticket.user_id, session=ticket.session, key=ticket.key, browser=ticket.browser)


def hide(scope: MutableMapping[str, Any]) -> None:
    """Move the ticket from the query string to a separate key, before the server logs the URL from this scope."""
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    values = [value for name, value in pairs if name == "ticket"]
    if values:
        scope["query_string"] = urlencode([pair for pair in pairs if pair[0] != "ticket"]).encode()
        scope[SCOPE_KEY] = values[0]


class TicketAuthentication(BaseAuthentication):
    """Authentication by ticket, for the views of streams. `grant` is that of the ticket."""

    grant: Grant | None = None

    def authenticate(self, request: Request) -> tuple[User, Actor] | None:
        scope = getattr(request._request, "scope", {})
        if not (text := scope.get(SCOPE_KEY)):
            return None
        self.grant = redeem(text=text, path=scope.get(paths.REQUESTED_PATH, request.path))
        actor = self.grant.actor()
        assert actor.user is not None
        caller.identify(name=actor.name, user=actor.user.id)
        return actor.user, actor


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
