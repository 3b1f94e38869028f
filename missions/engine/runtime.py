"""The engine of one agent process: it claims sorties, flies them in its slots, keeps their leases and settles them.

`execution.py` runs one attempt; `committer.py` brings outcomes and claims to the database.

**Leases, in prose.** The database holds the authority: a running sortie has a lease, and only its clock ends it. This
process trusts a lease for less than it lasts, counted on its own monotonic clock from the moment it *asked* (`end` in
`fleet/lease.py`). All leases are renewed together every few seconds; the answer says which were cancelled, and what is
absent from it is lost. Each renewal goes on to the attempt's shim, which stops the work by itself when none comes in time:
this process may be halted. When a lease is lost, or could not be renewed in time, the driver is stopped and the outcome is
not even posted; and if it were, the fence (sortie, attempt) would refuse it.

**Lists.** Under a backlog of short sorties a slot claims several at once and settles them together. What has not started
when one of them turns out long is handed back (`_unblock`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import close_old_connections, connection

from agents import operations as agents
from agents.drivers.base import Stop, StopReason
from fleet import lease
from fleet.postgres import hot_path
from missions import claims
from missions.claims import Claim
from missions.engine import execution
from missions.engine.committer import Committer
from missions.engine.output import OutputWriter
from missions.engine.preparation import TypeSettings
from missions.engine.settle_and_claim import Party
from missions.engine.settling import Settlement
from missions.engine.task_summary import TaskSummary
from missions.hints import Hinter

log = logging.getLogger("fleet.engine")

SHORT_S = 0.005  # sorties shorter than this, on average, make a slot's list longer
LONG_S = 0.020  # longer than this makes it one again
BLOCKED_S = 0.100  # what has not started when one sortie takes this long is handed back
POST_S = 0.002  # how long a slot keeps outcomes to itself
LONGEST_LIST = 64
TICK_S = 0.05


@dataclass(slots=True, eq=False)
class HeldClaim:
    """A claim that this process holds, from the claim until its settlement is committed."""

    claim: Claim
    stop: Stop = field(init=False)
    started: float | None = None

    def __post_init__(self) -> None:
        self.stop = Stop(lease_end=self.claim.lease_end)

    def must_stop(self, now: float) -> bool:
        """Whether the lease has come so near to its end that work must be stopped; none is begun then either."""
        return now > self.stop.lease_end - settings.FLEET_GRACE_S

    def stopped_for(self, reason: StopReason) -> bool:
        return self.stop.reason is reason


@dataclass(slots=True, eq=False)
class Batch:
    """The list that one slot works off."""

    waiting: deque[HeldClaim]
    since: float = 0.0  # when the sortie in hand began


class Engine:
    """Created once in an agent's process. `start`, then `fly` from as many threads as there are slots, then `stop`."""

    def __init__(self, *, agent: UUID, type_settings: TypeSettings, slots: int, hinter: Hinter) -> None:
        self.agent, self.type_settings, self.slots = agent, type_settings, slots
        self.lease_s, self.renew_s = settings.FLEET_LEASE_S, settings.FLEET_RENEW_S
        self.hinter = hinter
        self.output_writer = OutputWriter(max_bytes=settings.FLEET_OUTPUT_BYTES)
        self.committer = Committer(
            party=Party(agent=agent, agent_type=type_settings.agent_type, lease_s=self.lease_s),
            ring=hinter.ring,
            settled=self._settled,
        )
        self.flown = 0  # sorties settled and accepted, ever
        self._held: dict[tuple[UUID, int], HeldClaim] = {}
        self._batches: set[Batch] = set()
        self._free = threading.Semaphore(slots)
        self._busy = 0
        self._list_length = 1
        self._heard = time.monotonic()
        self._hurried = False
        self._claimed: float | None = None  # when it last took a sortie
        self._draining = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._renew_forever, name="renewer", daemon=True),
            threading.Thread(target=self._watch_forever, name="watch", daemon=True),
        ]

    # ── From outside ─────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        self.committer.start()
        self.output_writer.start()
        for thread in self._threads:
            thread.start()

    def fly(self, *, flown: TaskSummary | None = None) -> int:
        """Work in one slot until nothing is left to claim; at once back if all slots are taken. Returns the number
        of sorties flown; what became of them is added to `flown`. A hint calls this; so does the watch, when it has
        heard of none for a while."""
        self._heard = time.monotonic()
        if self._draining.is_set() or not self._free.acquire(blocking=False):
            return 0
        with self._lock:
            self._busy += 1
        try:
            return self._work_off(TaskSummary() if flown is None else flown)
        finally:
            self._free.release()
            with self._lock:
                self._busy -= 1
                self._idle.notify_all()

    def drain(self) -> None:
        """Take nothing more; what is flown may end."""
        self._draining.set()

    def stop(self, *, within_s: float) -> None:
        """Drain, wait for what is flown, hand the rest back unfinished, and commit everything."""
        self.drain()
        deadline = time.monotonic() + within_s
        with self._lock:
            while self._busy and not self._hurried and (left := deadline - time.monotonic()) > 0:
                self._idle.wait(min(left, TICK_S))  # in short steps: `hurry` comes from a signal and can take no lock
            for held in self._held.values():
                held.stop.set(StopReason.DRAINED)
            while self._busy:
                self._idle.wait()
        self.committer.stop()
        self.committer.join(settings.FLEET_GRACE_S)
        self.output_writer.stop()
        self._ended.set()

    def hurry(self) -> None:
        """Let a `stop` that waits for what is flown wait no longer. Safe to call from a signal's handler."""
        self._hurried = True

    @property
    def flying(self) -> int:
        with self._lock:
            return sum(held.started is not None for held in self._held.values())

    # ── A slot ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _work_off(self, flown: TaskSummary) -> int:
        number = 0
        said: list[Settlement] = []
        while True:
            want = 0 if self._draining.is_set() else self._list_length
            claimed = self.committer.settle_and_claim(settlements=said, want=want) if said or want else []
            said = []
            if not claimed:
                return number
            if len(claimed) == want:
                self._wake_another()  # there is probably more
            batch = self._take_in(claimed)
            began = time.monotonic()
            first_said = began
            while held := self._next(batch):
                settlement = self._one(held)
                number += 1
                if settlement is None:
                    continue
                now = time.monotonic()
                if not said:
                    first_said = now
                said.append(settlement)
                flown.add(settlement)
                if batch.waiting and now - first_said > POST_S:
                    self.committer.settle_and_claim(settlements=said, wait=False)
                    said = []
            with self._lock:
                self._batches.discard(batch)
            self._pace((time.monotonic() - began) / len(claimed))

    def _take_in(self, claimed: list[Claim]) -> Batch:
        batch = Batch(deque(HeldClaim(claim) for claim in claimed))
        self._claimed = time.monotonic()
        with self._lock:
            for held in batch.waiting:
                self._held[held.claim.id, held.claim.attempt] = held
            self._batches.add(batch)
        return batch

    def _next(self, batch: Batch) -> HeldClaim | None:
        with self._lock:
            if not batch.waiting:
                return None
            if self._draining.is_set():
                self._return(batch.waiting)
                return None
            held = batch.waiting.popleft()
            held.started = batch.since = time.monotonic()
            return held

    def _one(self, held: HeldClaim) -> Settlement | None:
        """Fly one; None where there is nothing to settle: the lease is lost, or it goes back unstarted."""
        claim = held.claim
        if held.must_stop(time.monotonic()) or held.stopped_for(StopReason.LEASE_LOST):
            self._forget(held)
            return None
        output = self.output_writer.buffer(sortie=claim.id, attempt=claim.attempt)
        try:
            settlement = execution.execute(claim=claim, type_settings=self.type_settings, output=output, stop=held.stop)
        finally:
            self.output_writer.close(output)
        if held.stopped_for(StopReason.LEASE_LOST):
            log.warning("%s lost its lease; its outcome is not said", claim.marker)
            self._forget(held)
            return None
        if held.stopped_for(StopReason.DRAINED) and settlement.state != "succeeded":
            self._forget(held)
            self.committer.settle_and_claim(returned=[claim], wait=False)
            return None
        return settlement

    def _pace(self, mean_s: float) -> None:
        if mean_s < SHORT_S:
            self._list_length = min(self._list_length * 2, LONGEST_LIST)
        elif mean_s > LONG_S:
            self._list_length = 1

    def _wake_another(self) -> None:
        if self._busy < self.slots:
            threading.Thread(target=self._fly_unheard, name="slot", daemon=True).start()

    def _fly_unheard(self) -> None:
        close_old_connections()
        try:
            self.fly()
        finally:
            connection.close()

    # ── What becomes of what is held ─────────────────────────────────────────────────────────────────────────────────

    def _settled(self, settlement: Settlement, accepted: bool) -> None:
        with self._lock:
            self._held.pop((settlement.id, settlement.attempt), None)
            self.flown += accepted
        if not accepted:
            log.warning(
                "%s/%s: an outcome was refused, for its attempt is not the running one",
                settlement.id,
                settlement.attempt,
            )

    def _forget(self, held: HeldClaim) -> None:
        with self._lock:
            self._held.pop((held.claim.id, held.claim.attempt), None)

    def _return(self, waiting: deque[HeldClaim]) -> None:
        """Hand back what has not started; the lock is held."""
        unstarted = list(waiting)
        waiting.clear()
        for held in unstarted:
            self._held.pop((held.claim.id, held.claim.attempt), None)
        self.committer.settle_and_claim(returned=[held.claim for held in unstarted], wait=False)

    # ── The threads ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _renew_forever(self) -> None:
        database: hot_path.Connection | None = None
        last_heartbeat = 0.0
        while not self._ended.wait(self.renew_s):
            try:
                database = database or hot_path.connect(name="renewer")
                self._renew(database)
                if time.monotonic() - last_heartbeat >= settings.FLEET_HEARTBEAT_S:
                    last_heartbeat = time.monotonic()
                    claimed_s_ago = None if self._claimed is None else last_heartbeat - self._claimed
                    if not agents.heartbeat(
                        database,
                        agent=self.agent,
                        flying=self.flying,
                        flown=self.flown,
                        claimed_s_ago=claimed_s_ago,
                    ):
                        log.error("this agent has been given up (lost or terminated); it stops")
                        self._give_up()
            except psycopg.Error as fault:
                log.warning("could not renew the leases: %s", str(fault).strip())
                database = None

    def _renew(self, database: hot_path.Connection) -> None:
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        requested_at = time.monotonic()
        with database.cursor() as cursor:
            renewal = claims.renew(cursor, held=list(held), lease_s=self.lease_s)
        lease_end = lease.end(requested_at=requested_at, lease_s=self.lease_s)
        for token, one in held.items():
            if token not in renewal.held:
                one.stop.set(StopReason.LEASE_LOST)
            else:
                one.stop.renew(lease_end=lease_end)
                if token in renewal.cancelled:
                    one.stop.set(StopReason.CANCELLED)

    def _watch_forever(self) -> None:
        """Leases by this process's clock, lists that are blocked, and work that no hint told of."""
        while not self._ended.wait(TICK_S):
            now = time.monotonic()
            if self.committer.fault is not None:
                self._give_up()
                return
            with self._lock:
                for held in self._held.values():
                    if held.must_stop(now):
                        held.stop.set(StopReason.LEASE_LOST)
                for batch in self._batches:
                    if batch.waiting and now - batch.since > BLOCKED_S:
                        self._return(batch.waiting)
            if now - self._heard > settings.FLEET_LISTEN_S:
                self._heard = now
                self._wake_another()

    def _give_up(self) -> None:
        self.drain()
        with self._lock:
            for held in self._held.values():
                held.stop.set(StopReason.LEASE_LOST)
        self.given_up()

    def given_up(self) -> None:
        """What the process does when its agent's row says that it is no more; the worker shuts down."""
