"""One listener: first what it has missed, from the table, and then what the hub hands it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from uuid import UUID

import django.db

from fleet.access.tokens import NotSignedIn
from fleet.events.stream import Position
from fleet.live.feeds import NOT_SIGNED_IN, End, Ended, Feed, Told
from fleet.live.hub import AGAIN_S, hub

MOST = 1_000  # events that wait for a listener
PAGE = 500  # events of one reading of the table
QUIET_S = 12.0  # after which it says that it is still there


class Listener:
    """`position` is that of the last event that it was given, or of what it need not be given."""

    def __init__(self, feed: Feed, *, everything: bool) -> None:
        self.feed = feed
        self.position = feed.start
        self.ended: End | None = None
        self._everything = everything
        self._queue: deque[Told] = deque()
        self._wake = asyncio.Event()
        self._behind = False  # the queue was too short; the table has it all
        self._rewound: Position | None = None
        self._begun = feed.begun
        self._seen: dict[UUID, bool] = {}  # whether it sees a scope, as it was when last asked

    def offer(self, told: Told) -> None:
        """Of the hub: never waits."""
        if self._behind:
            return
        if len(self._queue) >= MOST:
            self._queue.clear()
            self._behind = True
        else:
            self._queue.append(told)
        self._wake.set()

    def rechecked(self, end: End | None, *, everything: bool) -> None:
        """Of the hub: whether it still may."""
        self._everything = everything
        self._seen.clear()
        if end is not None:
            self.end(end)

    def end(self, end: End) -> None:
        """Let it end; `batches` says why, in `ended`."""
        self.ended = self.ended or end
        self._wake.set()

    def rewind(self, position: Position) -> None:
        """Go on from there."""
        self._rewound = position
        self._begun = None
        self._behind = True
        self._wake.set()

    async def batches(self) -> AsyncGenerator[list[Told], None]:
        """What is new, in its order; an empty list where nothing is and `position` has gone on. Ends when it must."""
        try:
            await hub.join(self)
            while self.ended is None:
                if self._rewound is not None:
                    self.position, self._rewound = self._rewound, None
                self._queue.clear()
                self._behind = False  # from here on what is offered is kept, and what was before is in the table
                async for batch in self._from_the_table():
                    yield batch
                async for batch in self._from_the_queue():
                    yield batch
        finally:
            hub.leave(self)

    async def _from_the_table(self) -> AsyncGenerator[list[Told], None]:
        while self.ended is None and self._rewound is None:
            try:
                page = await hub.work(lambda: self.feed.after(self.position, most=PAGE))
            except Ended as fault:
                self.end(fault.end)
                return
            except NotSignedIn as fault:
                self.end(End(NOT_SIGNED_IN, str(fault)))
                return
            except django.db.Error:
                await asyncio.sleep(AGAIN_S)
                continue
            if page and self._rewound is None:
                self.position = Position.of(page[-1])
                if told := self._new([Told(event, self.feed.shape) for event in page]):
                    yield told
            if len(page) < PAGE:
                await self._end_if_over()
                return

    async def _from_the_queue(self) -> AsyncGenerator[list[Told], None]:
        while self.ended is None and not self._behind:
            fresh = [told for told in self._queue if told.position > self.position]
            self._queue.clear()
            if fresh:
                seen = await self._visible(self._new(fresh))
                if self._rewound is None:
                    self.position = fresh[-1].position
                    if seen:
                        yield seen
                    if any(told.event.kind in self.feed.closing for told in fresh):
                        await self._end_if_over()
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout(QUIET_S):
                    await self._wake.wait()
            except TimeoutError:
                self.position = max(self.position, hub.last)
                yield []

    async def _end_if_over(self) -> None:
        while self.feed.closing and self.ended is None and self._rewound is None:
            try:
                end = await hub.work(lambda: self.feed.over(self.position, begun=self._begun))
            except django.db.Error:
                await asyncio.sleep(AGAIN_S)
                continue
            if end is not None and self._rewound is None:
                self.end(end)
            return

    def _new(self, told: list[Told]) -> list[Told]:
        """Those that were not there when it began."""
        return told if self._begun is None else [one for one in told if self._begun.after(one.position)]

    async def _visible(self, fresh: list[Told]) -> list[Told]:
        """Those that it may see. Which scopes it sees is kept until the next recheck."""
        if self._everything or self.feed.scope is not None:
            return fresh
        unknown = {told.scope for told in fresh if told.scope is not None} - self._seen.keys()
        while unknown and self.ended is None:
            try:
                seen = await hub.work(lambda: self.feed.visible(self.feed.grant.actor(), unknown))
            except NotSignedIn as fault:
                self.end(End(NOT_SIGNED_IN, str(fault)))
                return []
            except django.db.Error:
                await asyncio.sleep(AGAIN_S)
                continue
            self._seen |= {scope: scope in seen for scope in unknown}
            break
        return [told for told in fresh if told.scope is not None and self._seen.get(told.scope, False)]
