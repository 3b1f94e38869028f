"""The rows of an attempt's change: its commit, what became of it, and which trees have passed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from fleet.postgres import locks, statements
from fleet.postgres.locks import Lock
from missions.claims import Claim
from missions.engine.outages import Stopped
from missions.models import Change, Conflict, Patch, SavedWork, Sortie, VerifiedTree, Workspace
from missions.states import SortieState
from missions.workspaces import conflicts, reservations
from missions.workspaces.commits import Commit
from missions.workspaces.repositories import git
from missions.workspaces.reservation_index import ReservedPattern


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRecords:
    """Writes the rows of one attempt. Raises Stopped if it is no longer the running one."""

    claim: Claim
    workspace: Workspace

    @contextmanager
    def _lock_running_attempt(self) -> Iterator[None]:
        """A transaction that locks this attempt as the running one. Raises Stopped if it is not."""
        sortie = Sortie.objects.filter(id=self.claim.id, state=SortieState.RUNNING, attempt=self.claim.attempt)
        with transaction.atomic():
            if sortie.select_for_update(no_key=True).first() is None:
                raise Stopped
            yield

    def save_committed(self, commit: Commit, **facts: Any) -> tuple[Change, ReservedPattern | None]:
        """Store a good change. From here on its files are reserved, if no other sortie has reserved them.

        Otherwise that is a conflict of kind `stray`, and the reservation of the other sortie is returned too.
        """
        with transaction.atomic():
            # Until the change is stored, no other sortie may be granted its files.
            locks.lock(Lock.ADMISSION, halted_s=reservations.HALTED_S)
            holders = reservations.find_conflicts(
                sortie=self.claim.id,
                mission=self.claim.mission,
                branch=(self.workspace.repository, self.workspace.branch),
                paths=[git.printable(path) for path in commit.paths],
            )
            if holders:
                conflicts.record(
                    sortie=self.claim.id,
                    mission=self.claim.mission,
                    attempt=self.claim.attempt,
                    kind=Conflict.Kind.STRAY,
                    outcome=Conflict.Outcome.ORDERED,
                    others=sorted({holder.name_for(self.claim.mission) for holder in holders.values()}),
                    files=list(holders),
                    onto=commit.base,
                )
            return self.save(commit, state=Change.State.COMMITTED, **facts), next(iter(holders.values()), None)

    def save(self, commit: Commit, *, state: Change.State, **facts: Any) -> Change:
        """Store the change of this attempt, which supersedes those of earlier attempts."""
        with self._lock_running_attempt():
            Change.objects.filter(sortie_id=self.claim.id, state__in=Change.UNMERGED).exclude(
                attempt=self.claim.attempt
            ).update(state=Change.State.KEPT)
            SavedWork.objects.filter(sortie=self.claim.id).delete()
            Patch.objects.filter(sortie=self.claim.id).delete()
            change, _ = Change.objects.update_or_create(
                sortie_id=self.claim.id,
                attempt=self.claim.attempt,
                defaults={
                    "state": state,
                    **commit.change_fields(),
                    **facts,
                },
            )
            return change

    def keep(self, change: Change) -> None:
        """Mark a change that failed its checks as kept: nothing merges it, but people can look at it."""
        with self._lock_running_attempt():
            Change.objects.filter(id=change.id).update(state=Change.State.KEPT)

    def take_over(self, change: Change) -> None:
        """Move the artifacts of the attempt that did the work to this attempt, which merges it."""
        with connection.cursor() as cursor:
            cursor.execute(
                statements.read("missions.artifacts", "take_over"),
                {"sortie": self.claim.id, "earlier": change.attempt, "attempt": self.claim.attempt},
            )

    def record_intent(self, change: Change, *, landed: str, onto: str) -> bool:
        """Store which commit is about to land. False if the attempt is no longer the running one."""
        with connection.cursor() as cursor:
            cursor.execute(
                statements.read("missions.engine.changes", "intend_landing"),
                {"change": change.id, "attempt": self.claim.attempt, "landed": landed, "onto": onto},
            )
            return bool(cursor.rowcount)

    def was_verified(self, tree: str, command: Any, *, own: bool) -> bool:
        """Whether the tree has passed the command. `own`: it is the sortie's `verify`, not that of the workspace."""
        digest = self._digest(command, own=own)
        return VerifiedTree.objects.filter(mission_id=self.claim.mission, tree=tree, command=digest).exists()

    def note_verified(self, tree: str, command: Any, *, own: bool) -> None:
        """Note that the tree has passed the command."""
        digest = self._digest(command, own=own)
        VerifiedTree.objects.get_or_create(mission_id=self.claim.mission, tree=tree, command=digest)

    def _digest(self, command: Any, *, own: bool) -> str:
        """Identifies a command, and its sortie if the folder and the environment of the sortie matter too (`own`)."""
        return hashlib.sha256(json.dumps([command, self.claim.key if own else None]).encode()).hexdigest()

    def record_conflict(self, change: Change, *, kind: Conflict.Kind, **facts: Any) -> Conflict.Outcome:
        """Store a conflict of the change. The plan decides who resolves it."""
        match self.workspace.conflicts:
            case "rework" if conflicts.reworks(self.claim.id) < self.workspace.reworks:
                outcome = Conflict.Outcome.REWORK
            case "fail":
                outcome = Conflict.Outcome.FAILED
            case _:
                outcome = Conflict.Outcome.MANUAL
        state = Change.State.KEPT if outcome == Conflict.Outcome.FAILED else Change.State.CONFLICTED
        with self._lock_running_attempt():
            conflicts.record(
                sortie=self.claim.id,
                mission=self.claim.mission,
                attempt=self.claim.attempt,
                kind=kind,
                outcome=outcome,
                **facts,
            )
            Change.objects.filter(id=change.id).update(state=state)
        return outcome
