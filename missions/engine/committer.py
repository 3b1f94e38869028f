"""One committer an agent process: it settles and claims for all of the process's slots, in as few commits as it can.

A slot that finds nobody committing commits for itself and whoever has posted by then ("flat combining", Hendler, Incze,
Shavit and Tzafrir, 2010), which spares two changes of thread; the committer's own thread does what nobody waits for.

A commit is what costs (2 ms on an ordinary cloud disk), so whatever the slots say while one commit is under way goes
into the next one together: settlements and claims in one transaction. A slot that has finished its list says so and
asks for more in one exchange, and may get just what it made ready.

Where Postgres does not answer, the committer keeps what it was told and tries again until it does. A commit whose
fate is unknown is said again: the fence (sortie, attempt) makes that harmless, and claims whose answer was lost are
found as strays and handed back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from fleet.postgres import hot_path, statements
from missions.claims import Claim
from missions.engine import settle_and_claim
from missions.engine.settle_and_claim import Party
from missions.engine.settling import Consequences, Settlement
from missions.hints import Named

log = logging.getLogger("fleet.committer")

RETRY_S = 0.5


@dataclass(slots=True, eq=False)
class _Posted:
    """What one slot said and wants, and the answer."""

    settlements: Sequence[Settlement]
    returned: Sequence[Claim]
    want: int
    done: threading.Event = field(default_factory=threading.Event)
    claimed: list[Claim] = field(default_factory=list)


class Committer(threading.Thread):
    """Owns the process's connection for settling and claiming; everything else only posts to it.

    After each commit `settled` is told of every settlement whether it was accepted, and `ring` what other agents can
    now do.
    """

    def __init__(
        self,
        *,
        party: Party,
        ring: Callable[[Mapping[str, int], Named], None],
        settled: Callable[[Settlement, bool], None],
    ) -> None:
        super().__init__(name="committer", daemon=True)
        self.party, self.ring, self.settled = party, ring, settled
        self._posted: list[_Posted] = []
        self._changed = threading.Condition()
        self._led = False  # whether somebody is committing: this thread, or a slot that found nobody doing it
        self._stopping = False
        self.fault: Exception | None = None
        self._connection: hot_path.Connection | None = None
        self._unsure = False  # whether a commit's fate is unknown, and strays may exist
        self._known: set[tuple[UUID, int]] = set()  # what was claimed here and neither settled nor returned

    # ── What the slots call ──────────────────────────────────────────────────────────────────────────────────────────

    def settle_and_claim(
        self,
        *,
        settlements: Sequence[Settlement] = (),
        returned: Sequence[Claim] = (),
        want: int = 0,
        wait: bool = True,
    ) -> list[Claim]:
        """Settle these, hand those back, and claim up to `want`, in one transaction with what others say meanwhile.

        Blocks until it is committed, unless `wait` is false. Nothing is claimed once the committer is stopping.
        """
        posted = _Posted(settlements, returned, want)
        with self._changed:
            if self.fault is not None:
                raise self.fault
            if self._stopping and not settlements and not returned:
                return []
            self._posted.append(posted)
            leads = wait and not self._led
            if leads:
                self._led = True
            else:
                self._changed.notify()
        if leads:
            self._lead(mine=posted)
        elif wait:
            posted.done.wait()
        if wait and self.fault is not None:
            raise self.fault
        return posted.claimed

    def stop(self) -> None:
        """Commit what has been posted, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    # ── The thread ───────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        while self._wait_to_lead():
            self._lead()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _wait_to_lead(self) -> bool:
        """Until something is posted that no slot commits; False once there is nothing more to come."""
        with self._changed:
            while self._led or not (self._posted or self._stopping):
                self._changed.wait()
            self._led = bool(self._posted) and self.fault is None
            return self._led

    def _lead(self, *, mine: _Posted | None = None) -> None:
        """Commit what is posted, batch after batch; a slot only until its own is done, and the thread takes over."""
        while batch := self._take(mine):
            try:
                consequences = self._commit_until_it_holds(batch)
            except Exception as fault:
                # Not Postgres's absence but a fault of ours: nothing more can be settled here, so the agent must end.
                log.critical("the committer cannot go on", exc_info=True)
                self._fail(batch, fault)
                continue
            for posted in batch:
                posted.done.set()
            self._after(batch, consequences)

    def _fail(self, batch: list[_Posted], fault: Exception) -> None:
        with self._changed:
            self.fault = fault
            batch, self._posted = batch + self._posted, []
        for posted in batch:
            posted.done.set()

    def _take(self, mine: _Posted | None) -> list[_Posted]:
        with self._changed:
            if not self._posted or (mine is not None and mine.done.is_set()):
                self._led = False
                self._changed.notify_all()
                return []
            batch, self._posted = self._posted, []
            return batch

    def _commit_until_it_holds(self, batch: list[_Posted]) -> Consequences:
        one_by_one = False
        while True:
            try:
                return self._commit(batch, one_by_one=one_by_one)
            except (psycopg.DataError, psycopg.IntegrityError, ValueError) as fault:
                if one_by_one:
                    raise
                log.warning("one of %d settlements cannot be stored (%s); settling one by one", len(batch), fault)
                one_by_one = True
            except (psycopg.OperationalError, psycopg.InterfaceError) as fault:
                log.warning("Postgres did not take a commit (%s); trying again", str(fault).strip())
                self._unsure = True
                if self._connection is not None and self._connection.broken:
                    self._connection = None
                time.sleep(RETRY_S)

    def _commit(self, batch: list[_Posted], *, one_by_one: bool) -> Consequences:
        connection = self._connection = self._connection or hot_path.connect(name="committer")
        settlements = [settlement for posted in batch for settlement in posted.settlements]
        returned = [(claim.id, claim.attempt) for posted in batch for claim in posted.returned]
        want = 0 if self._stopping else sum(posted.want for posted in batch)
        with connection.cursor() as cursor:
            if not (returned or self._unsure or one_by_one) and all(map(settle_and_claim.is_plain, settlements)):
                # What nearly every commit is: one statement, which is its own transaction.
                consequences = settle_and_claim.settle_and_claim(
                    cursor, by=self.party, settlements=settlements, want=want
                )
            else:
                with connection.transaction():
                    consequences = self._commit_more(cursor, settlements, returned, want, one_by_one)
        self._unsure = False
        self._account(batch, settlements, returned, consequences)
        return consequences

    def _commit_more(
        self,
        cursor: hot_path.Cursor,
        settlements: list[Settlement],
        returned: list[tuple[UUID, int]],
        want: int,
        one_by_one: bool,
    ) -> Consequences:
        consequences = settle_and_claim.settle_and_claim(
            cursor, by=self.party, settlements=settlements, one_by_one=one_by_one
        )
        if self._unsure:
            self._hand_back_strays(cursor, consequences)
        if returned:
            consequences.add(settle_and_claim.give_back(cursor, attempts=returned, why="it had not been started"))
        if want:
            consequences.add(settle_and_claim.settle_and_claim(cursor, by=self.party, want=want))
        return consequences

    def _account(
        self,
        batch: list[_Posted],
        settlements: list[Settlement],
        returned: list[tuple[UUID, int]],
        consequences: Consequences,
    ) -> None:
        """The commit holds: note what is known to be held, deal the claims out, and say what was accepted."""
        self._known.update((claim.id, claim.attempt) for claim in consequences.claimed)
        self._known.difference_update((settlement.id, settlement.attempt) for settlement in settlements)
        self._known.difference_update(returned)
        _share(consequences.claimed, batch)
        for settlement in settlements:
            self.settled(settlement, settlement.id in consequences.accepted)

    def _hand_back_strays(self, cursor: hot_path.Cursor, consequences: Consequences) -> None:
        """Claims of a commit whose answer was lost: the database says that we hold them, and we never heard."""
        cursor.execute(
            "SELECT id, attempt FROM missions_sortie WHERE state = 'running' AND agent_id = %(agent)s",
            {"agent": self.party.agent},
        )
        strays = [row for row in cursor.fetchall() if row not in self._known]
        if strays:
            log.warning("handing back %d claims whose answer was lost", len(strays))
            consequences.add(
                settle_and_claim.give_back(cursor, attempts=strays, why="the answer to its claim was lost")
            )

    def _after(self, batch: list[_Posted], consequences: Consequences) -> None:
        """What follows a commit and may fail without harm: the control loop does it again."""
        self.ring(
            {agent_type: count for agent_type, count in consequences.freed.items() if count > 0}, consequences.named
        )
        going_on = {claim.mission for posted in batch for claim in posted.claimed}
        ended = consequences.missions - going_on
        if ended and self._connection is not None:
            try:
                self._connection.execute(statements.read("missions.engine", "complete"), {"missions": list(ended)})
            except psycopg.Error as fault:
                log.warning("could not look whether missions are complete: %s", fault)


def _share(claimed: list[Claim], batch: list[_Posted]) -> None:
    """Deal the claims out, one each in turn, the most urgent first, up to what each slot wants."""
    wanting = [posted for posted in batch if posted.want]
    place = 0
    for claim in claimed:
        while len(wanting[place % len(wanting)].claimed) >= wanting[place % len(wanting)].want:
            place += 1
        wanting[place % len(wanting)].claimed.append(claim)
        place += 1
