"""The hub: one task per web process reads new events and passes them to all listeners of the process.

Each listener has a bounded queue. If it falls behind, the queue is dropped and the listener reads the table from its
own position instead, so it misses nothing and delays no other listener. After an outage of Postgres the hub continues
from its last position.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import django.db
from django.conf import settings
from django.db import connection

from fleet import errors
from fleet.events import naming, stream
from fleet.events.models import Event
from fleet.live.feeds import NOT_SIGNED_IN, End, SerializedEvent
from fleet.postgres import retries
from fleet.postgres.commit_order import Position
from fleet.web import shared_counters

if TYPE_CHECKING:
    from fleet.live.listening import Listener

log = logging.getLogger("fleet.live")
T = TypeVar("T")

BUSY_POLL_S, IDLE_POLL_S = 0.04, 0.08  # while events happen; when none has happened for IDLE_AFTER_S
IDLE_AFTER_S = 5.0
PAGE = 1_000  # events per poll
RECHECK_BATCH = 50  # listeners per query of access
USER_SHARE = 4  # one user may have a quarter of all streams


class Hub:
    """The hub of one event loop. `last` is the position up to which events were passed on."""

    def __init__(self) -> None:
        self._by_scope: dict[UUID | None, set[Listener]] = {}  # None: listeners to the whole fleet
        self._listeners: set[Listener] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, "live-reader")  # keeps its own connection while there are listeners
        self._workers = ThreadPoolExecutor(3, "live")
        self.last = Position()

    async def join(self, listener: Listener) -> None:
        """Add a listener. From then on it is offered all new events; it reads those up to `last` itself."""
        self._listeners.add(listener)
        self.count(listener.feed.grant.user)
        self._by_scope.setdefault(listener.feed.scope, set()).add(listener)
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._recheck())]
        await self._ready.wait()

    def leave(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
            self.count(listener.feed.grant.user, -1)
        if (group := self._by_scope.get(listener.feed.scope)) is not None:
            group.discard(listener)
            if not group:
                del self._by_scope[listener.feed.scope]
        if not self._listeners:
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            self._ready = asyncio.Event()
            self._reader.submit(lambda: connection.close())  # `connection.close` would bind this thread's connection

    def check_capacity(self, user: int) -> None:
        """Raise Unavailable or RateLimited if the site or the user has too many streams. Callable from any thread."""
        limit = settings.FLEET_LIVE_LISTENERS
        total, of_user = (shared_counters.site.count(name) for name in _counters(user))
        if total >= limit:
            raise errors.Unavailable(f"All {limit} streams of this site are in use.", hint="Try again later.")
        if of_user >= max(1, limit // USER_SHARE):
            raise errors.RateLimited("You have too many streams open.", hint="Close some of them.")

    def count(self, user: int, by: int = 1) -> None:
        """Count a stream, or with `by=-1` its end; followed logs count too. Call it in the event loop's thread."""
        for name in _counters(user):
            shared_counters.site.add(name, by)

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function that queries the database, in one of a few threads."""

        def call() -> T:
            try:
                return function()
            finally:
                connection.close()  # back into the pool

        return await asyncio.get_running_loop().run_in_executor(self._workers, call)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        idle_from = loop.time()
        self.last = await self._retry(lambda: self._in_reader(lambda: stream.snapshot().position))
        self._ready.set()
        while True:
            events = await self._retry(lambda: self._in_reader(self._read))
            if events:
                self._dispatch(events)
                idle_from = loop.time() + IDLE_AFTER_S
            if len(events) < PAGE:
                await asyncio.sleep(BUSY_POLL_S if loop.time() < idle_from else IDLE_POLL_S)

    def _read(self) -> list[Event]:
        events = list(stream.since(last=self.last)[:PAGE])
        naming.set_names(events)
        return events

    def _dispatch(self, events: Iterable[Event]) -> None:
        fleet_wide = self._by_scope.get(None, set())
        for event in events:
            serialized = None
            for listener in (*self._by_scope.get(event.scope, ()), *fleet_wide) if event.scope else fleet_wide:
                serialized = serialized or SerializedEvent(event, listener.feed.serialize)
                listener.offer(serialized)
            self.last = Position.of(event)

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(settings.FLEET_LIVE_RECHECK_S)
            listeners = [listener for listener in self._listeners if listener.ended is None]
            listeners.sort(key=lambda listener: hash(listener.feed.grant))
            for begin in range(0, len(listeners), RECHECK_BATCH):
                batch = listeners[begin : begin + RECHECK_BATCH]
                try:
                    checks = await self.run(lambda batch=batch: _check_access(batch))  # type: ignore[misc]
                except django.db.Error:
                    break  # while Postgres is away, no events are sent either
                for listener, (end, sees_everything) in zip(batch, checks, strict=True):
                    listener.apply_recheck(end, sees_everything=sees_everything)

    async def _in_reader(self, function: Callable[[], T]) -> T:
        def call() -> T:
            try:
                return function()
            except django.db.Error:
                connection.close()
                raise

        return await asyncio.get_running_loop().run_in_executor(self._reader, call)

    async def _retry(self, query: Callable[[], Awaitable[T]]) -> T:
        failed = False

        def note_failure(error: Exception, failures: int) -> None:
            nonlocal failed
            failed = True
            if failures == 1:
                log.warning("Postgres does not answer; listeners wait (%s)", type(error).__name__)

        result = await retries.retry_async(query, on_failure=note_failure)
        if failed:
            log.warning("Postgres answers again")
        return result


def _counters(user: int) -> tuple[str, str]:
    """The shared counters of a listener: of the whole site, and of its user."""
    return "listeners", f"listeners:{user}"


def _check_access(listeners: list[Listener]) -> list[tuple[End | None, bool]]:
    """For each listener: why it must end, if it must, and whether it sees everything. One query per grant.

    `listeners` must be sorted so that those of one grant are adjacent.
    """
    checks: dict[Listener, tuple[End | None, bool]] = {}
    for grant, group in itertools.groupby(listeners, key=lambda listener: listener.feed.grant):
        of_grant = list(group)
        try:
            actor = grant.actor()
        except errors.FleetError as error:
            checks |= dict.fromkeys(of_grant, (End(NOT_SIGNED_IN, str(error)), False))
            continue
        scopes = {listener.feed.scope for listener in of_grant if listener.feed.scope is not None}
        visible = of_grant[0].feed.visible_scopes(actor, scopes) if scopes else set()
        checks |= {
            listener: (listener.feed.access_lost(actor, visible), listener.feed.sees_everything(actor))
            for listener in of_grant
        }
    return [checks[listener] for listener in listeners]


hub = Hub()
