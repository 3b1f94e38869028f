"""What a listener follows, and by which right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from fleet import errors
from fleet.access.actor import Actor
from fleet.access.rules import Reach
from fleet.events import naming, stream
from fleet.events.models import Event
from fleet.events.stream import Position
from fleet.live.grants import Grant

_CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)
OVER, NOT_SIGNED_IN, FORBIDDEN, NOT_FOUND = 1000, 4401, 4403, 4404
Shape = Callable[[Event], dict[str, Any]]


class End(NamedTuple):
    """Why a stream ends: the close code of a WebSocket (docs/live.md), and a sentence."""

    code: int
    why: str
    state: str = ""  # in which what was followed has ended

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "state": self.state or None, "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """The events of one scope, or all that the caller may see. Who knows what the scopes are says which of them somebody
    sees, and what an event looks like."""

    grant: Grant
    action: str  # of fleet.access.rules
    scope: UUID | None
    start: Position
    begun: stream.Now | None  # what was there by then is not told; None: all that is behind `start` is
    narrow: Callable[[Actor, QuerySet[Event]], QuerySet[Event]]  # to what somebody sees
    visible: Callable[[Actor, Collection[UUID]], set[UUID]]  # which of these scopes somebody sees
    shape: Shape
    closing: frozenset[str] = frozenset()  # kinds after which nothing may come any more
    outcome: Callable[[UUID], str] | None = None  # the state in which a scope has ended; empty while it goes on

    def over(self, last: Position, *, begun: stream.Now | None) -> End | None:
        """Why there is nothing more to hear for who has heard all up to `last`, and nothing that was there when it `begun`."""
        if self.scope is None or self.outcome is None or not (state := self.outcome(self.scope)):
            return None
        newest = Event.objects.filter(scope=self.scope).order_by("-xid", "-id").first()  # what follows the end, too
        if newest is not None:
            position = Position.of(newest)
            if position > last and (begun is None or begun.after(position)):
                return None
        return End(OVER, f"It has ended: {state}.", state)

    def everything(self, who: Actor) -> bool:
        """Whether nothing that happens is kept from them."""
        return self.scope is None and who.reach(self.action) is Reach.ALL

    def after(self, last: Position, *, most: int) -> list[Event]:
        """From the table. FleetError where the right has gone."""
        who = self.grant.actor()
        seen = self.visible(who, {self.scope}) if self.scope is not None else set()
        if (end := self.end(who, seen)) is not None:
            raise Ended(end)
        events = stream.since(last=last, scope=self.scope)
        found = list((events if self.scope else self.narrow(who, events))[:most])
        naming.name(found)
        return found

    def end(self, who: Actor, seen: Collection[UUID]) -> End | None:
        """Why it must end now, if it must. `seen` are scopes that they see, this one among them if they do."""
        if not who.may(self.action):
            return End(FORBIDDEN, "You may not do that any more.")
        if self.scope is not None and self.scope not in seen:
            return End(NOT_FOUND, "There is no such thing, or you may not see it any more.")
        return None


class Ended(errors.Forbidden):
    """The stream has ended."""

    def __init__(self, end: End) -> None:
        super().__init__(end.why)
        self.end = end


class Told:
    """An event on its way, written down once for all who hear of it."""

    def __init__(self, event: Event, shape: Shape) -> None:
        self.event, self.scope, self.position = event, event.scope, Position.of(event)
        self._shape = shape

    @property
    def cursor(self) -> str:
        return cursor(self.position)

    @cached_property
    def text(self) -> str:
        return json.dumps(self._shape(self.event), separators=(",", ":"))


def cursor(position: Position) -> str:
    return f"{position.xid}-{position.id}"


def read(text: str) -> Position:
    """The position of a cursor that was given out; Invalid for another one, also for one of another database."""
    found = _CURSOR.fullmatch(text)
    last = Position(*map(int, found.groups())) if found else None
    if last is None or last.xid > stream.now().newest:
        raise errors.Invalid("Unknown cursor.", hint="Begin without it.")
    return last
