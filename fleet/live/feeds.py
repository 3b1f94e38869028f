"""A feed: the events that a listener follows, and its right to see them."""

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
from fleet.access.rules import Visibility
from fleet.events import naming, stream
from fleet.events.models import Event
from fleet.live.grants import Grant
from fleet.postgres.commit_order import Position

_CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)
NORMAL_CLOSURE, NOT_SIGNED_IN, FORBIDDEN, NOT_FOUND = 1000, 4401, 4403, 4404
Serialize = Callable[[Event], dict[str, Any]]


class End(NamedTuple):
    """Why a stream ends: the close code of the WebSocket (docs/live.md), and a sentence."""

    code: int
    why: str
    state: str = ""  # final state of the mission, if it has ended

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "state": self.state or None, "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """The events of one scope, or all events that the caller can see.

    The app that defines the scopes passes the functions for visibility and serialization.
    """

    grant: Grant
    action: str  # of fleet.access.rules
    scope: UUID | None
    start: Position
    # Omits events that were committed before it. None: sends all events after `start`.
    snapshot: stream.TransactionSnapshot | None
    visible_events: Callable[[Actor, QuerySet[Event]], QuerySet[Event]]
    visible_scopes: Callable[[Actor, Collection[UUID]], set[UUID]]
    serialize: Serialize
    closing_kinds: frozenset[str] = frozenset()  # kinds of events that may be the last ones
    outcome: Callable[[UUID], str] | None = None  # the final state of a scope; empty if it has not ended

    def completed(self, last: Position, *, snapshot: stream.TransactionSnapshot | None) -> End | None:
        """The End if the scope has ended and no events are left to send after `last`; otherwise None."""
        if self.scope is None or self.outcome is None or not (state := self.outcome(self.scope)):
            return None
        # This includes events after the end of the scope.
        newest = Event.objects.filter(scope=self.scope).order_by("-xid", "-id").first()
        if newest is not None:
            position = Position.of(newest)
            if position > last and (snapshot is None or snapshot.after(position)):
                return None
        return End(NORMAL_CLOSURE, f"It has ended: {state}.", state)

    def sees_everything(self, actor: Actor) -> bool:
        """Whether the caller can see every event."""
        return self.scope is None and actor.visibility(self.action) is Visibility.ALL

    def after(self, last: Position, *, limit: int) -> list[Event]:
        """The next events from the table. Raises FleetError if the caller has lost access."""
        actor = self.grant.actor()
        visible = self.visible_scopes(actor, {self.scope}) if self.scope is not None else set()
        if (end := self.access_lost(actor, visible)) is not None:
            raise StreamEnded(end)
        events = stream.since(last=last, scope=self.scope)
        page = list((events if self.scope else self.visible_events(actor, events))[:limit])
        naming.set_names(page)
        return page

    def access_lost(self, actor: Actor, visible: Collection[UUID]) -> End | None:
        """The End if the caller may no longer follow this feed; otherwise None. `visible`: the scopes it can see."""
        if not actor.may(self.action):
            return End(FORBIDDEN, "You are no longer allowed to do this.")
        if self.scope is not None and self.scope not in visible:
            return End(NOT_FOUND, "It no longer exists, or you can no longer see it.")
        return None


class StreamEnded(errors.Forbidden):
    """The stream has ended."""

    def __init__(self, end: End) -> None:
        super().__init__(end.why)
        self.end = end


class SerializedEvent:
    """An event that is serialized once for all of its listeners."""

    def __init__(self, event: Event, serialize: Serialize) -> None:
        self.event, self.scope, self.position = event, event.scope, Position.of(event)
        self._serialize = serialize

    @property
    def cursor(self) -> str:
        return cursor(self.position)

    @cached_property
    def text(self) -> str:
        return json.dumps(self._serialize(self.event), separators=(",", ":"))


def cursor(position: Position) -> str:
    return f"{position.xid}-{position.id}"


def parse_cursor(text: str) -> Position:
    """The position of a cursor. Raises Invalid if this database cannot have issued it."""
    match = _CURSOR.fullmatch(text)
    position = Position(*map(int, match.groups())) if match else None
    if position is None or position.xid > stream.snapshot().newest:
        raise errors.Invalid("Unknown cursor.", hint="Start without a cursor.")
    return position
