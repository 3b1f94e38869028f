"""A listener: it first reads missed events from the table, then takes new ones from the hub."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

import django.db

from fleet.access.tokens import NotSignedIn
from fleet.live.feeds import NOT_SIGNED_IN, End, Feed, SerializedEvent, StreamEnded
from fleet.live.hub import hub
from fleet.postgres import retries
from fleet.postgres.commit_order import Position

MAX_QUEUE = 1_000  # events
PAGE = 500  # events per query of the table
KEEPALIVE_S = 12.0  # without events

T = TypeVar("T")


class _Interrupted(Exception):
    """The stream ended or was rewound, so the result of a query is no longer needed."""


class Listener:
    """One client of a feed. `position` is that of the last event that was sent or could be skipped."""

    def __init__(self, feed: Feed, *, sees_everything: bool) -> None:
        self.feed = feed
        self.position = feed.start
        self.ended: End | None = None
        self._sees_everything = sees_everything
        self._queue: deque[SerializedEvent] = deque()
        self._wake = asyncio.Event()
        self._behind = False  # the queue overflowed; the table has the events
        self._rewind_to: Position | None = None
        self._snapshot = feed.snapshot
        self._visible_scopes: dict[UUID, bool] = {}  # cached until the next recheck

    def offer(self, event: SerializedEvent) -> None:
        """Queue a new event. Called by the hub; never blocks."""
        if self._behind:
            return
        if len(self._queue) >= MAX_QUEUE:
            self._queue.clear()
            self._behind = True
        else:
            self._queue.append(event)
        self._wake.set()

    def apply_recheck(self, end: End | None, *, sees_everything: bool) -> None:
        """Apply the result of an access check. Called by the hub."""
        self._sees_everything = sees_everything
        self._visible_scopes.clear()
        if end is not None:
            self.end(end)

    def end(self, end: End) -> None:
        """Make `batches` end. `ended` keeps the first reason."""
        self.ended = self.ended or end
        self._wake.set()

    def rewind(self, position: Position) -> None:
        """Continue from another position."""
        self._rewind_to = position
        self._snapshot = None
        self._behind = True
        self._wake.set()

    async def batches(self) -> AsyncGenerator[list[SerializedEvent], None]:
        """New events in order; an empty list as a keepalive, if only `position` has advanced."""
        try:
            await hub.join(self)
            while self.ended is None:
                if self._rewind_to is not None:
                    self.position, self._rewind_to = self._rewind_to, None
                self._queue.clear()
                self._behind = False  # from here on offers are queued, and everything earlier is in the table
                async for batch in self._from_table():
                    yield batch
                async for batch in self._from_queue():
                    yield batch
        finally:
            hub.leave(self)

    async def _from_table(self) -> AsyncGenerator[list[SerializedEvent], None]:
        while self.ended is None and self._rewind_to is None:
            try:
                page = await self._query(lambda: self.feed.after(self.position, limit=PAGE))
            except _Interrupted:
                return
            if page and self._rewind_to is None:
                self.position = Position.of(page[-1])
                if fresh := self._after_snapshot([SerializedEvent(event, self.feed.serialize) for event in page]):
                    yield fresh
            if len(page) < PAGE:
                await self._end_if_completed()
                return

    async def _from_queue(self) -> AsyncGenerator[list[SerializedEvent], None]:
        while self.ended is None and not self._behind:
            fresh = [event for event in self._queue if event.position > self.position]
            self._queue.clear()
            if fresh:
                try:
                    visible = await self._visible(self._after_snapshot(fresh))
                except _Interrupted:
                    return  # the position stays, so that a client that continues from it misses nothing
                if self._rewind_to is None:
                    self.position = fresh[-1].position
                    if visible:
                        yield visible
                    if any(event.event.kind in self.feed.closing_kinds for event in fresh):
                        await self._end_if_completed()
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout(KEEPALIVE_S):
                    await self._wake.wait()
            except TimeoutError:
                self.position = max(self.position, hub.last)
                yield []

    async def _end_if_completed(self) -> None:
        if not self.feed.closing_kinds or self._is_interrupted():
            return
        with suppress(_Interrupted):
            end = await self._query(lambda: self.feed.completed(self.position, snapshot=self._snapshot))
            if end is not None and self._rewind_to is None:
                self.end(end)

    async def _query(self, query: Callable[[], T]) -> T:
        """Query the database, and repeat it while it fails. _Interrupted if the stream ends or is rewound meanwhile."""
        try:
            return await retries.retry_async(
                lambda: hub.run(query), on_failure=lambda *_: None, stop=self._is_interrupted
            )  # the hub logs the outage
        except StreamEnded as error:
            self.end(error.end)
            raise _Interrupted from error
        except NotSignedIn as error:
            self.end(End(NOT_SIGNED_IN, str(error)))
            raise _Interrupted from error
        except django.db.Error as error:
            raise _Interrupted from error

    def _is_interrupted(self) -> bool:
        return self.ended is not None or self._rewind_to is not None

    def _after_snapshot(self, events: list[SerializedEvent]) -> list[SerializedEvent]:
        """Return the events that were committed after the stream was opened, unless it started at a cursor."""
        if self._snapshot is None:
            return events
        return [event for event in events if self._snapshot.after(event.position)]

    async def _visible(self, events: list[SerializedEvent]) -> list[SerializedEvent]:
        """Return the events that the caller can see, or raise _Interrupted. Scopes are cached until the next recheck."""
        if self._sees_everything or self.feed.scope is not None:
            return events
        unknown = {event.scope for event in events if event.scope is not None} - self._visible_scopes.keys()
        if unknown:
            visible = await self._query(lambda: self.feed.visible_scopes(self.feed.grant.actor(), unknown))
            self._visible_scopes |= {scope: scope in visible for scope in unknown}
        return [event for event in events if event.scope is not None and self._visible_scopes.get(event.scope, False)]
