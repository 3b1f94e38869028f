"""The committer of an agent process: it settles and claims for all slots of the process, in as few commits as possible.

A slot that finds no commit in progress commits for itself and for all slots that have posted by then ("flat combining":
Hendler, Incze, Shavit and Tzafrir, 2010), which saves two thread switches. The committer's own thread commits posts
that no slot waits for.

Commits are expensive (2 ms on an ordinary cloud disk). So everything that the slots post during one commit goes into
the next one: settlements and claims in one transaction. A slot that has finished its batch settles it and claims more
in the same call, and may get just the sorties that it freed.

While Postgres does not answer, the committer keeps its posts and retries. It also repeats a commit whose outcome is
unknown. The fence (sortie, attempt) makes that harmless, and claims whose response was lost are found and returned.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from fleet.postgres import hot_path, retries, statements
from missions.claims import Claim
from missions.engine.settlement import settle_and_claim
from missions.engine.settlement.settle_and_claim import Claimant
from missions.engine.settlement.settling import Consequences, Settlement
from missions.hints import SortiesByType

log = logging.getLogger("fleet.committer")


@dataclass(slots=True, eq=False)
class _Post:
    """The request of one slot, and its response."""

    settlements: Sequence[Settlement]
    returns: Sequence[Claim]
    max_claims: int
    done: threading.Event = field(default_factory=threading.Event)
    claims: list[Claim] = field(default_factory=list)


class Committer(threading.Thread):
    """Owns the process's connection for settling and claiming; the slots only post requests to it.

    After each commit it calls `on_settled` with every settlement and whether it was accepted, and `send_hints` with the
    sorties that became queued.
    """

    def __init__(
        self,
        *,
        claimant: Claimant,
        send_hints: Callable[[Mapping[str, int], SortiesByType], None],
        on_settled: Callable[[Settlement, bool], None],
    ) -> None:
        super().__init__(name="committer", daemon=True)
        self.claimant, self.send_hints, self.on_settled = claimant, send_hints, on_settled
        self._posts: list[_Post] = []
        self._changed = threading.Condition()
        self._leading = False  # whether this thread or a slot is committing
        self._stopping = False
        self.error: Exception | None = None
        self._connection: hot_path.Connection | None = None
        self._uncertain = False  # whether the outcome of a commit is unknown, so that stray claims may exist
        self._outstanding: set[tuple[UUID, int]] = set()  # claimed here, and neither settled nor returned yet

    # ── Called by the slots ──────────────────────────────────────────────────────────────────────────────────────────

    def settle_and_claim(
        self,
        *,
        settlements: Sequence[Settlement] = (),
        returns: Sequence[Claim] = (),
        max_claims: int = 0,
        wait: bool = True,
    ) -> list[Claim]:
        """Settle, return claims, and claim up to `max_claims` sorties, in one transaction with other slots.

        Blocks until it is committed, unless `wait` is false. Claims nothing once the committer is stopping.
        """
        post = _Post(settlements, returns, max_claims)
        with self._changed:
            if self.error is not None:
                raise self.error
            if self._stopping and not settlements and not returns:
                return []
            self._posts.append(post)
            leads = wait and not self._leading
            if leads:
                self._leading = True
            else:
                self._changed.notify()
        if leads:
            self._lead(own_post=post)
        elif wait:
            post.done.wait()
        if wait and self.error is not None:
            raise self.error
        return post.claims

    def stop(self) -> None:
        """Commit the remaining posts, then end."""
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
        """Wait for a post that no slot commits. False once nothing more will come, or the committer has failed."""
        with self._changed:
            while self._leading or not (self._posts or self._stopping):
                self._changed.wait()
            self._leading = bool(self._posts) and self.error is None
            return self._leading

    def _lead(self, *, own_post: _Post | None = None) -> None:
        """Commit batch after batch. A slot stops when its own post (`own_post`) is done, and the thread takes over."""
        while batch := self._take(own_post):
            try:
                consequences = self._commit_with_retries(batch)
            except Exception as error:
                # Not an outage of Postgres but a bug: nothing more can be settled here, so the agent must end.
                log.critical("the committer failed; this agent must end", exc_info=True)
                self._fail(batch, error)
                continue
            for post in batch:
                post.done.set()
            self._follow_up(batch, consequences)

    def _fail(self, batch: list[_Post], error: Exception) -> None:
        with self._changed:
            self.error = error
            batch, self._posts = batch + self._posts, []
        for post in batch:
            post.done.set()

    def _take(self, own_post: _Post | None) -> list[_Post]:
        with self._changed:
            if not self._posts or (own_post is not None and own_post.done.is_set()):
                self._leading = False
                self._changed.notify_all()
                return []
            batch, self._posts = self._posts, []
            return batch

    def _commit_with_retries(self, batch: list[_Post]) -> Consequences:
        try:
            return retries.retry(lambda: self._commit(batch, one_by_one=False), on_failure=self._prepare_retry)
        except (psycopg.DataError, psycopg.IntegrityError, ValueError) as error:
            log.warning("one of %d settlements cannot be stored (%s); settling them one by one", len(batch), error)
            return retries.retry(lambda: self._commit(batch, one_by_one=True), on_failure=self._prepare_retry)

    def _prepare_retry(self, error: Exception, _: int) -> None:
        log.warning("a commit to Postgres failed (%s); retrying", str(error).strip())
        self._uncertain = True
        if self._connection is not None and self._connection.broken:
            self._connection = None

    def _commit(self, batch: list[_Post], *, one_by_one: bool) -> Consequences:
        connection = self._connection = self._connection or hot_path.connect(name="committer")
        settlements = [settlement for post in batch for settlement in post.settlements]
        returns = [(claim.id, claim.attempt) for post in batch for claim in post.returns]
        max_claims = 0 if self._stopping else sum(post.max_claims for post in batch)
        with connection.cursor() as cursor:
            more_steps = returns or self._uncertain
            if more_steps or settle_and_claim.needs_transaction(settlements, one_by_one=one_by_one):
                with hot_path.transaction(connection):
                    consequences = self._commit_in_steps(cursor, settlements, returns, max_claims, one_by_one)
            else:  # nearly every commit: one statement, which is its own transaction
                with hot_path.statement(connection):
                    consequences = settle_and_claim.settle_and_claim(
                        cursor, by=self.claimant, settlements=settlements, max_claims=max_claims
                    )
        self._uncertain = False
        self._deliver(batch, settlements, returns, consequences)
        return consequences

    def _commit_in_steps(
        self,
        cursor: hot_path.Cursor,
        settlements: list[Settlement],
        returns: list[tuple[UUID, int]],
        max_claims: int,
        one_by_one: bool,
    ) -> Consequences:
        consequences = settle_and_claim.settle_and_claim(
            cursor, by=self.claimant, settlements=settlements, one_by_one=one_by_one
        )
        if self._uncertain:
            self._return_strays(cursor, consequences)
        if returns:
            consequences.add(settle_and_claim.give_back(cursor, attempts=returns, why="it had not been started"))
        if max_claims:
            consequences.add(settle_and_claim.settle_and_claim(cursor, by=self.claimant, max_claims=max_claims))
        return consequences

    def _deliver(
        self,
        batch: list[_Post],
        settlements: list[Settlement],
        returns: list[tuple[UUID, int]],
        consequences: Consequences,
    ) -> None:
        """After a commit: update the outstanding claims, give new ones to the slots, and report the settlements."""
        self._outstanding.update((claim.id, claim.attempt) for claim in consequences.claims)
        self._outstanding.difference_update((settlement.id, settlement.attempt) for settlement in settlements)
        self._outstanding.difference_update(returns)
        _distribute(consequences.claims, batch)
        for settlement in settlements:
            self.on_settled(settlement, settlement.id in consequences.accepted)

    def _return_strays(self, cursor: hot_path.Cursor, consequences: Consequences) -> None:
        """Return claims whose response was lost: the database has them, but this agent never received them."""
        cursor.execute(
            "SELECT id, attempt FROM missions_sortie WHERE state = 'running' AND agent_id = %(agent)s",
            {"agent": self.claimant.agent},
        )
        strays = [row for row in cursor.fetchall() if row not in self._outstanding]
        if strays:
            log.warning("returning %d claims whose response was lost", len(strays))
            consequences.add(
                settle_and_claim.give_back(cursor, attempts=strays, why="the response to its claim was lost")
            )

    def _follow_up(self, batch: list[_Post], consequences: Consequences) -> None:
        """Send hints and complete missions. A failure does no harm, because the control loop repeats both."""
        self.send_hints(consequences.queued, consequences.queued_sorties)
        unfinished = {claim.mission for post in batch for claim in post.claims}
        candidates = consequences.missions - unfinished
        if candidates and self._connection is not None:
            try:
                with hot_path.statement(self._connection):
                    self._connection.execute(
                        statements.read("missions.engine.settlement", "complete"), {"missions": list(candidates)}
                    )
            except psycopg.Error as error:
                log.warning("could not check whether missions are complete: %s", error)


def _distribute(claims: list[Claim], batch: list[_Post]) -> None:
    """Give the claims to the slots in turn, the most urgent first, up to the number that each requested."""
    slots = itertools.cycle([post for post in batch if post.max_claims])
    for claim in claims:
        next(post for post in slots if len(post.claims) < post.max_claims).claims.append(claim)
