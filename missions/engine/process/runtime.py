"""The engine of an agent process: it claims sorties, executes them in its slots, renews their leases and settles them.

`missions.engine.attempts.execution` executes one attempt; `committer` writes settlements and claims to the database.

**Leases.** The database has the authority: a running sortie has a lease, which ends by the database's clock. This
process trusts a lease for less time than it lasts, counted on its own monotonic clock from the moment it *requested*
the lease (`end` in `fleet/lease.py`). It renews all leases together every few seconds. The result says which sorties
were cancelled; leases absent from it are lost. Each renewal is passed on to the attempt's shim. This process may be
halted, so the shim stops the workload by itself if no renewal arrives in time. If a lease is lost or was not renewed in
time, the driver is stopped and its outcome is not posted. The fence (sortie, attempt) would refuse it anyway.

**Batches.** Under a backlog of short sorties, a slot claims several at once and settles them together. If one of them
takes long, the claims that have not started are handed back (`_watch_forever`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import close_old_connections, connection

from agents import operations as agents
from agents.confinement.attempt_limits import StopReason
from agents.drivers.base import Stop
from fleet import lease
from fleet.postgres import hot_path
from missions import claims
from missions.claims import Claim
from missions.engine.attempts import execution
from missions.engine.attempts.preparation import TypeSettings
from missions.engine.output.writer import OutputWriter
from missions.engine.process.committer import Committer
from missions.engine.process.task_summary import TaskSummary
from missions.engine.settlement.settle_and_claim import Claimant
from missions.engine.settlement.settling import Settlement
from missions.hints import HintPublisher

log = logging.getLogger("fleet.engine")

SHORT_S = 0.005  # if sorties take less than this on average, batches get larger
LONG_S = 0.020  # if they take more than this, a batch has one sortie again
BLOCKED_S = 0.100  # if a sortie takes longer than this, the rest of its batch is handed back
POST_S = 0.002  # how long a slot withholds outcomes, to settle them together
MAX_BATCH = 64  # sorties
TICK_S = 0.05


@dataclass(slots=True, eq=False)
class ActiveClaim:
    """A claim of this process, from the claim until its settlement is committed."""

    claim: Claim
    stop: Stop = field(init=False)
    started_at: float | None = None

    def __post_init__(self) -> None:
        self.stop = Stop(lease_end=self.claim.lease_end)

    def must_stop(self, now: float) -> bool:
        """Whether the lease ends so soon that workloads must stop. None is started then either."""
        return now > self.stop.lease_end - settings.FLEET_GRACE_S

    def stopped_for(self, reason: StopReason) -> bool:
        return self.stop.reason is reason


@dataclass(slots=True, eq=False)
class Batch:
    """The claims that one slot executes, one after the other."""

    unstarted: deque[ActiveClaim]
    sortie_started_at: float = 0.0  # of the current sortie


class Engine:
    """Create one per agent process. Call `start`, then `run_slot` from one thread per slot, then `stop`.

    `on_abandon` is called once the agent can no longer work; it ends the process.
    """

    def __init__(
        self,
        *,
        agent: UUID,
        type_settings: TypeSettings,
        slots: int,
        hint_publisher: HintPublisher,
        on_abandon: Callable[[], object] = lambda: None,
    ) -> None:
        self.agent, self.type_settings, self.slots = agent, type_settings, slots
        self.lease_s, self.renew_s = settings.FLEET_LEASE_S, settings.FLEET_RENEW_S
        self.hint_publisher = hint_publisher
        self._on_abandon = on_abandon
        self.output_writer = OutputWriter(max_bytes=settings.FLEET_OUTPUT_BYTES)
        self.committer = Committer(
            claimant=Claimant(agent=agent, agent_type=type_settings.agent_type, lease_s=self.lease_s),
            send_hints=hint_publisher.send,
            on_settled=self._on_settled,
        )
        self.settled = 0  # sorties whose settlement was accepted, since the start
        self._claims: dict[tuple[UUID, int], ActiveClaim] = {}
        self._batches: set[Batch] = set()
        self._free = threading.Semaphore(slots)
        self._busy = 0
        self._batch_size = 1
        self._last_hint = time.monotonic()
        self._skip_wait = False
        self._last_claim: float | None = None  # when it last claimed a sortie
        self._draining = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._background = [
            threading.Thread(target=self._renew_forever, name="renewer", daemon=True),
            threading.Thread(target=self._watch_forever, name="watch", daemon=True),
        ]

    # ── Public ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        self.committer.start()
        self.output_writer.start()
        for thread in self._background:
            thread.start()

    def run_slot(self, *, summary: TaskSummary | None = None) -> int:
        """Work in one slot until nothing is left to claim; return at once if all slots are busy.

        Returns the number of sorties executed, and adds their outcomes to `summary`. Called for each hint, and by the
        watch thread if no hint has arrived for a while.
        """
        self._last_hint = time.monotonic()
        if self._draining.is_set() or not self._free.acquire(blocking=False):
            return 0
        with self._lock:
            self._busy += 1
        try:
            return self._run_batches(TaskSummary() if summary is None else summary)
        finally:
            self._free.release()
            with self._lock:
                self._busy -= 1
                self._idle.notify_all()

    def drain(self) -> None:
        """Claim nothing more; running sorties may finish."""
        self._draining.set()

    def stop(self, *, within_s: float) -> None:
        """Drain, wait up to `within_s` seconds for running sorties, hand back unfinished ones, and commit."""
        self.drain()
        deadline = time.monotonic() + within_s
        with self._lock:
            while self._busy and not self._skip_wait and (remaining_s := deadline - time.monotonic()) > 0:
                # in short steps: `skip_wait` runs in a signal handler and cannot notify
                self._idle.wait(min(remaining_s, TICK_S))
            for active_claim in self._claims.values():
                active_claim.stop.set(StopReason.DRAINED)
            while self._busy:
                self._idle.wait()
        self.committer.stop()
        self.committer.join(settings.FLEET_GRACE_S)
        self.output_writer.stop()
        self._ended.set()

    def skip_wait(self) -> None:
        """Make `stop` wait no longer for running sorties. Safe to call from a signal handler."""
        self._skip_wait = True

    @property
    def running(self) -> int:
        with self._lock:
            return sum(active_claim.started_at is not None for active_claim in self._claims.values())

    # ── A slot ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _run_batches(self, summary: TaskSummary) -> int:
        executed = 0
        settlements: list[Settlement] = []
        while True:
            max_claims = 0 if self._draining.is_set() else self._batch_size
            claims = (
                self.committer.settle_and_claim(settlements=settlements, max_claims=max_claims)
                if settlements or max_claims
                else []
            )
            settlements = []
            if not claims:
                return executed
            if len(claims) == max_claims:
                self._start_another_slot()  # there is probably more work
            batch = self._add_batch(claims)
            batch_started_at = first_settled_at = time.monotonic()
            while active_claim := self._next(batch):
                settlement = self._execute(active_claim)
                executed += 1
                if settlement is None:
                    continue
                now = time.monotonic()
                if not settlements:
                    first_settled_at = now
                settlements.append(settlement)
                summary.add(settlement, tolerated=bool(active_claim.claim.spec.get("allow_failure")))
                if batch.unstarted and now - first_settled_at > POST_S:
                    self.committer.settle_and_claim(settlements=settlements, wait=False)
                    settlements = []
            with self._lock:
                self._batches.discard(batch)
            self._adapt_batch_size((time.monotonic() - batch_started_at) / len(claims))

    def _add_batch(self, claims: list[Claim]) -> Batch:
        batch = Batch(deque(ActiveClaim(claim) for claim in claims))
        self._last_claim = time.monotonic()
        with self._lock:
            for active_claim in batch.unstarted:
                self._claims[active_claim.claim.id, active_claim.claim.attempt] = active_claim
            self._batches.add(batch)
        return batch

    def _next(self, batch: Batch) -> ActiveClaim | None:
        with self._lock:
            if not batch.unstarted:
                return None
            if self._draining.is_set():
                self._return(batch.unstarted)
                return None
            active_claim = batch.unstarted.popleft()
            active_claim.started_at = batch.sortie_started_at = time.monotonic()
            return active_claim

    def _execute(self, active_claim: ActiveClaim) -> Settlement | None:
        """Execute one attempt. None if there is nothing to settle: the lease was lost, or the claim was returned."""
        claim = active_claim.claim
        if active_claim.must_stop(time.monotonic()) or active_claim.stopped_for(StopReason.LEASE_LOST):
            self._forget(active_claim)
            return None
        output = self.output_writer.buffer(sortie=claim.id, attempt=claim.attempt)
        try:
            settlement = execution.execute(
                claim=claim, type_settings=self.type_settings, output=output, stop=active_claim.stop
            )
        finally:
            self.output_writer.close(output, stop=active_claim.stop)
        if active_claim.stopped_for(StopReason.LEASE_LOST):
            log.warning("%s lost its lease; its outcome is discarded", claim.marker)
            self._forget(active_claim)
            return None
        if active_claim.stopped_for(StopReason.DRAINED) and settlement.state != "succeeded":
            self._forget(active_claim)
            self.committer.settle_and_claim(returns=[claim], wait=False)
            return None
        return settlement

    def _adapt_batch_size(self, mean_s: float) -> None:
        if mean_s < SHORT_S:
            self._batch_size = min(self._batch_size * 2, MAX_BATCH)
        elif mean_s > LONG_S:
            self._batch_size = 1

    def _start_another_slot(self) -> None:
        if self._busy < self.slots:
            threading.Thread(target=self._run_slot_in_thread, name="slot", daemon=True).start()

    def _run_slot_in_thread(self) -> None:
        close_old_connections()
        try:
            self.run_slot()
        finally:
            connection.close()

    # ── Current claims ───────────────────────────────────────────────────────────────────────────────────────────────

    def _on_settled(self, settlement: Settlement, accepted: bool) -> None:
        with self._lock:
            self._claims.pop((settlement.id, settlement.attempt), None)
            self.settled += accepted
        if not accepted:
            log.warning(
                "%s/%s: the outcome was refused, because its attempt is not the running one",
                settlement.id,
                settlement.attempt,
            )

    def _forget(self, active_claim: ActiveClaim) -> None:
        with self._lock:
            self._claims.pop((active_claim.claim.id, active_claim.claim.attempt), None)

    def _return(self, unstarted: deque[ActiveClaim]) -> None:
        """Hand back the claims of a batch that have not started. The caller holds the lock."""
        claims = [active_claim.claim for active_claim in unstarted]
        unstarted.clear()
        for claim in claims:
            self._claims.pop((claim.id, claim.attempt), None)
        self.committer.settle_and_claim(returns=claims, wait=False)

    # ── Threads ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _renew_forever(self) -> None:
        database: hot_path.Connection | None = None
        last_heartbeat = 0.0
        while not self._ended.wait(self.renew_s):
            try:
                database = database or hot_path.connect(name="renewer")
                self._renew(database)
                if time.monotonic() - last_heartbeat >= settings.FLEET_HEARTBEAT_S:
                    last_heartbeat = time.monotonic()
                    claimed_s_ago = None if self._last_claim is None else last_heartbeat - self._last_claim
                    with hot_path.statement(database):
                        alive = agents.heartbeat(
                            database,
                            agent=self.agent,
                            running=self.running,
                            settled=self.settled,
                            claimed_s_ago=claimed_s_ago,
                        )
                    if not alive:
                        log.error("this agent was declared lost or terminated; it stops")
                        self._abandon()
            except psycopg.Error as error:
                log.warning("could not renew the leases: %s", str(error).strip())
                database = None

    def _renew(self, database: hot_path.Connection) -> None:
        with self._lock:
            active_claims = dict(self._claims)
        if not active_claims:
            return
        requested_at = time.monotonic()
        with hot_path.statement(database), database.cursor() as cursor:
            renewal = claims.renew(cursor, attempts=list(active_claims), lease_s=self.lease_s)
        lease_end = lease.end(requested_at=requested_at, lease_s=self.lease_s)
        for attempt, active_claim in active_claims.items():
            if attempt not in renewal.renewed:
                active_claim.stop.set(StopReason.LEASE_LOST)
            else:
                active_claim.stop.renew(lease_end=lease_end)
                if attempt in renewal.cancelled:
                    active_claim.stop.set(StopReason.CANCELLED)

    def _watch_forever(self) -> None:
        """Stop workloads whose lease runs out, hand back blocked batches, and look for work if no hint arrives."""
        while not self._ended.wait(TICK_S):
            now = time.monotonic()
            if self.committer.error is not None:
                self._abandon()
                return
            with self._lock:
                for active_claim in self._claims.values():
                    if active_claim.must_stop(now):
                        active_claim.stop.set(StopReason.LEASE_LOST)
                for batch in self._batches:
                    if batch.unstarted and now - batch.sortie_started_at > BLOCKED_S:
                        self._return(batch.unstarted)
            if now - self._last_hint > settings.FLEET_POLL_INTERVAL_S:
                self._last_hint = now
                self._start_another_slot()

    def _abandon(self) -> None:
        """Stop all workloads without settling them, and end the process."""
        self.drain()
        with self._lock:
            for active_claim in self._claims.values():
                active_claim.stop.set(StopReason.LEASE_LOST)
        self._on_abandon()
