"""One task of a web process reads what is new, for all who listen there, and hands it to them.

A listener has a bounded queue. Whoever does not empty it in time loses the queue and reads the table from its own position
instead, so it hears of everything and delays nobody. Postgres may go and come: the reading goes on where it was.
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
from fleet.events.stream import Position
from fleet.live.feeds import NOT_SIGNED_IN, End, Told
from fleet.web import shared_counters

if TYPE_CHECKING:
    from fleet.live.listening import Listener

log = logging.getLogger("fleet.live")
T = TypeVar("T")

SOON_S, LATER_S = 0.04, 0.08  # between two looks: while things happen, and when nothing has for CALM_S
CALM_S = 5.0
AGAIN_S = 1.0  # after a look that failed
PAGE = 1_000  # events in one look
AT_ONCE = 50  # listeners in one such question
EACH = 4  # one user may have a quarter of all places


class Hub:
    """Of one event loop. `last` is how far all have been told."""

    def __init__(self) -> None:
        self._listeners: dict[UUID | None, set[Listener]] = {}  # by scope; None: those of the whole fleet
        self._everybody: set[Listener] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, "live-reader")  # has a connection for itself while somebody listens
        self._workers = ThreadPoolExecutor(3, "live")
        self.last = Position()

    async def join(self, listener: Listener) -> None:
        """From now on it is offered what is new; returns when that is so. Whatever `last` covers it reads itself."""
        self._everybody.add(listener)
        self.take(listener.feed.grant.user)
        self._listeners.setdefault(listener.feed.scope, set()).add(listener)
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._recheck())]
        await self._ready.wait()

    def leave(self, listener: Listener) -> None:
        if listener in self._everybody:
            self._everybody.remove(listener)
            self.take(listener.feed.grant.user, -1)
        if (group := self._listeners.get(listener.feed.scope)) is not None:
            group.discard(listener)
            if not group:
                del self._listeners[listener.feed.scope]
        if not self._everybody:
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            self._ready = asyncio.Event()
            self._reader.submit(lambda: connection.close())  # `connection.close` would be this thread's

    def make_room(self, user: int) -> None:
        """Unavailable or RateLimited where the site has no place for another listener. May be asked from any thread."""
        most = settings.FLEET_LIVE_LISTENERS
        everybody, theirs = (shared_counters.site.count(name) for name in _counted(user))
        if everybody >= most:
            raise errors.Unavailable(f"{most} streams are open here, which is all.", hint="Try again later.")
        if theirs >= max(1, most // EACH):
            raise errors.RateLimited("You have too many streams open.", hint="Close some.")

    def take(self, user: int, places: int = 1) -> None:
        """Or give back. For whatever else is followed, too; in the event loop's thread."""
        for name in _counted(user):
            shared_counters.site.add(name, places)

    async def work(self, what: Callable[[], T]) -> T:
        """Something that asks the database, in one of a few threads."""

        def done() -> T:
            try:
                return what()
            finally:
                connection.close()  # back into the pool

        return await asyncio.get_running_loop().run_in_executor(self._workers, done)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        calm_from = loop.time()
        self.last = await self._persist(lambda: self._in_reader(lambda: stream.now().position))
        self._ready.set()
        while True:
            found = await self._persist(lambda: self._in_reader(self._read))
            if found:
                self._tell(found)
                calm_from = loop.time() + CALM_S
            if len(found) < PAGE:
                await asyncio.sleep(SOON_S if loop.time() < calm_from else LATER_S)

    def _read(self) -> list[Event]:
        found = list(stream.since(last=self.last)[:PAGE])
        naming.name(found)
        return found

    def _tell(self, events: Iterable[Event]) -> None:
        wide = self._listeners.get(None, set())
        for event in events:
            told = None
            for listener in (*self._listeners.get(event.scope, ()), *wide) if event.scope else wide:
                told = told or Told(event, listener.feed.shape)
                listener.offer(told)
            self.last = Position.of(event)

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(settings.FLEET_LIVE_RECHECK_S)
            everybody = [one for one in self._everybody if one.ended is None]
            everybody.sort(key=lambda one: hash(one.feed.grant))
            for begin in range(0, len(everybody), AT_ONCE):
                some = everybody[begin : begin + AT_ONCE]
                try:
                    ends = await self.work(lambda some=some: _ends(some))  # type: ignore[misc]
                except django.db.Error:
                    break  # nothing is heard either while the database is away
                for listener, (end, everything) in zip(some, ends, strict=True):
                    listener.rechecked(end, everything=everything)

    async def _in_reader(self, what: Callable[[], T]) -> T:
        def done() -> T:
            try:
                return what()
            except django.db.Error:
                connection.close()
                raise

        return await asyncio.get_running_loop().run_in_executor(self._reader, done)

    async def _persist(self, what: Callable[[], Awaitable[T]]) -> T:
        failed = False
        while True:
            try:
                found = await what()
            except django.db.Error as fault:
                if not failed:
                    log.warning("Postgres does not answer; listeners wait (%s)", type(fault).__name__)
                failed = True
                await asyncio.sleep(AGAIN_S)
                continue
            if failed:
                log.warning("Postgres answers again")
            return found


def _counted(user: int) -> tuple[str, str]:
    """What a listener counts as, in all processes of the site together."""
    return "listeners", f"listeners:{user}"


def _ends(listeners: list[Listener]) -> list[tuple[End | None, bool]]:
    """Of each, why it must end, and whether it hears of everything. One question for all that somebody follows."""
    found: dict[Listener, tuple[End | None, bool]] = {}
    for grant, group in itertools.groupby(listeners, key=lambda one: one.feed.grant):
        theirs = list(group)
        try:
            who = grant.actor()
        except errors.FleetError as fault:
            found |= dict.fromkeys(theirs, (End(NOT_SIGNED_IN, str(fault)), False))
            continue
        scopes = {one.feed.scope for one in theirs if one.feed.scope is not None}
        seen = theirs[0].feed.visible(who, scopes) if scopes else set()
        found |= {one: (one.feed.end(who, seen), one.feed.everything(who)) for one in theirs}
    return [found[one] for one in listeners]


hub = Hub()
