"""Merges the change of an attempt into the branch of its mission, verifies exactly what lands, and settles the attempt.

If another sortie is being merged, the attempt ends and the sortie waits; a later attempt of it only merges.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from agents import drivers
from agents.drivers.base import AttemptBrief, Evidence, Stop
from missions.claims import Claim
from missions.engine.changes.records import ChangeRecords
from missions.engine.changes.workspace_attempt import WorkspaceAttempt, print_line, stop_if_asked
from missions.engine.outages import Stopped, until_answered
from missions.engine.output.buffer import OutputBuffer
from missions.engine.settlement import verdict
from missions.engine.settlement.settling import Settlement
from missions.models import Change, Conflict, WaitsOn, Workspace
from missions.plan import SortieSpec
from missions.workspaces import branches, commits, conflicts, copies, lanes
from missions.workspaces.repositories import git, mirrors

log = logging.getLogger("fleet.workspaces")

MAX_MERGES = 20  # then the sortie waits again: something moves the branch although this attempt has its lane


class TreeCheck(NamedTuple):
    """A command that must pass on a merged tree. `brief`: that of the sortie's own `verify`; None: the workspace's."""

    command: Any
    brief: AttemptBrief | None

    @property
    def is_own(self) -> bool:
        return self.brief is not None


@dataclass(slots=True, kw_only=True)
class Landing:
    """One attempt's merge of `change`. `verify` is the brief of the sortie's own `verify`."""

    attempt: WorkspaceAttempt
    change: Change
    verify: AttemptBrief | None
    output: OutputBuffer
    stop: Stop

    def run(self) -> Settlement:
        """Merge the change into the branch, or wait for the lane."""
        change, holder = self.change, self.attempt.holder
        if change.attempt != self._claim.attempt:
            until_answered(lambda: self._records.take_over(change), stop=self.stop)
        if change.commit == change.base:
            return self._succeeded()
        if holder is not None:
            waits_for = f"the merge of {holder.name_for(self._claim.mission)}, which has reserved {holder.pattern}"
            return wait(self._claim, WaitsOn.MERGE, waits_for, blocked_by=holder.sortie)
        for _ in range(MAX_MERGES):
            stop_if_asked(self.stop)
            lane = until_answered(self._take_lane, stop=self.stop)
            if lane is None:
                return wait(self._claim, WaitsOn.MERGE, until_answered(self._holder_of_lane, stop=self.stop))
            tip = mirrors.tip(self._mirror, self._workspace.branch, start=self._workspace.base_commit)
            if self._has_landed(tip):
                return self._succeeded()
            merged = branches.merge(self._mirror, onto=tip, commit=change.commit)
            if not merged.clean:
                return self._conflict(
                    Conflict.Kind.MERGE, tip=tip, files=merged.files, tree=merged.tree, text=merged.text
                )
            landed = self._commit(tip=tip, tree=merged.tree)
            checks = self._pending_checks(merged.tree)
            if checks and (evidence := self._set_up()) is not None:
                return self._failed(evidence, evidence.error)
            if (evidence := self._run_checks(checks, tree=merged.tree, commit=landed)) is not None:
                return self._not_verified(evidence, tip=tip)
            if self._land(lane=lane, tip=tip, landed=landed):
                print_line(self.output, f"Merged into {self._workspace.branch} as {landed[:12]}.")
                return self._succeeded()
        return wait(self._claim, WaitsOn.MERGE, "another merge")

    @property
    def _claim(self) -> Claim:
        return self.attempt.claim

    @property
    def _workspace(self) -> Workspace:
        return self.attempt.workspace

    @property
    def _mirror(self) -> Path:
        return self.attempt.mirror

    @property
    def _records(self) -> ChangeRecords:
        return self.attempt.records

    # ── The steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_lane(self) -> str | None:
        return lanes.take(
            repository=self._workspace.repository,
            branch=self._workspace.branch,
            mirror=self._mirror,
            sortie=self._claim.id,
            attempt=self._claim.attempt,
        )

    def _holder_of_lane(self) -> str:
        holder = lanes.holder(repository=self._workspace.repository, branch=self._workspace.branch)
        return f"the merge of {holder}" if holder else "another merge"

    def _has_landed(self, tip: str) -> bool:
        """Whether an earlier attempt moved the branch to the change and ended before it could settle."""
        change = self.change
        landing = change.state == Change.State.LANDING
        return landing and mirrors.contains(self._mirror, commit=change.landed, ref=tip)

    def _commit(self, *, tip: str, tree: str) -> str:
        """The commit that lands: one with this tree on the tip, or the tip itself if it contains the work already."""
        if tree == branches.tree_of(self._mirror, tip):
            return tip
        message = self.attempt.message(self.change.attempt)
        return branches.create_commit(self._mirror, tree=tree, parent=tip, message=message)

    def _pending_checks(self, tree: str) -> list[TreeCheck]:
        """The checks that have not passed on this tree yet."""
        checks = (TreeCheck(self.attempt.spec.verify, self.verify), TreeCheck(self._workspace.verify, None))
        return [check for check in checks if check.command is not None and not self._has_passed(tree, check)]

    def _set_up(self) -> Evidence | None:
        """Rebuild the copy if it is gone. Returns the evidence of a failed setup, else None."""
        if self.attempt.copy.exists:
            return None
        with copies.lock(self.attempt.copy, attempt=self._claim.attempt) as descriptor:
            self.attempt.build(tip=self.change.base, descriptor=descriptor)
        return self.attempt.set_up(output=self.output, stop=self.stop)

    def _run_checks(self, checks: Sequence[TreeCheck], *, tree: str, commit: str) -> Evidence | None:
        """Run these checks in the copy, which gets exactly the tree of `commit`. Returns the evidence of the first that
        fails; None if all pass.

        Ignored files stay in the copy, so that nothing has to be installed again.
        """
        copy = self.attempt.copy
        for check in checks:
            with copies.lock(copy, attempt=self._claim.attempt):
                stop_if_asked(self.stop)
                commits.check_out(copy, tree=tree)
                copies.renew_repository(copy, branch=self._workspace.branch, commit=commit)
            if check.brief is not None:
                evidence = drivers.get("command").run(brief=check.brief, reporter=self.output, stop=self.stop)
            else:
                evidence = self.attempt.run_command(check.command, output=self.output, stop=self.stop)
            if not evidence.ok:
                return evidence
            self._note_passed(tree, check)
        return None

    def _has_passed(self, tree: str, check: TreeCheck) -> bool:
        return until_answered(lambda: self._records.was_verified(tree, check.command, own=check.is_own), stop=self.stop)

    def _note_passed(self, tree: str, check: TreeCheck) -> None:
        until_answered(lambda: self._records.note_verified(tree, check.command, own=check.is_own), stop=self.stop)

    def _land(self, *, lane: str, tip: str, landed: str) -> bool:
        """Move the branch to this commit. False if the branch or its lane has moved meanwhile."""
        change = self.change
        if not until_answered(lambda: self._records.record_intent(change, landed=landed, onto=tip), stop=self.stop):
            raise Stopped
        stop_if_asked(self.stop)
        try:
            if landed != tip:
                branches.move(self._mirror, branch=self._workspace.branch, lane=lane, tip=tip, to=landed)
        except branches.LaneLost as error:
            log.info("%s: %s", self._claim.marker, error)
            return False
        change.state, change.landed, change.onto = Change.State.LANDING, landed, tip
        return True

    # ── The outcomes ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _succeeded(self) -> Settlement:
        return Settlement(
            id=self._claim.id,
            attempt=self._claim.attempt,
            state="succeeded",
            outcome="succeeded",
            result=self.change.result,
            exit_code=self.change.exit_code,
            added=tuple(map(SortieSpec.from_json, self.change.added_sorties)),
            has_change=True,
        )

    def _not_verified(self, evidence: Evidence, *, tip: str) -> Settlement:
        """What follows a failed check: a conflict, or a failed try if the tree is that of the change alone."""
        stop_if_asked(self.stop)
        if self.change.base != tip:
            text = evidence.error or "`verify` of the workspace failed."
            return self._conflict(Conflict.Kind.VERIFY, tip=tip, text=text)
        until_answered(lambda: self._records.keep(self.change), stop=self.stop)
        reason = evidence.error or "it exited with an error"
        return self._failed(evidence, f"The workload succeeded, but `verify` of the workspace failed: {reason}")

    def _failed(self, evidence: Evidence, error: str) -> Settlement:
        settlement = verdict.failed(
            claim=self._claim,
            spec=self.attempt.spec,
            error=error,
            evidence=evidence,
            permanent=evidence.permanent,
        )
        return replace(settlement, has_change=True)

    def _conflict(
        self, kind: Conflict.Kind, *, tip: str, files: Sequence[str] = (), tree: str = "", text: str = ""
    ) -> Settlement:
        """Record a conflict, and decide who resolves it."""
        others = conflicts.others(self._mirror, base=self.change.base, tip=tip, files=files)
        outcome = until_answered(
            lambda: self._records.record_conflict(
                self.change, kind=kind, onto=tip, others=others, files=files, tree=tree, text=text
            ),
            stop=self.stop,
        )
        with_others = f" with {', '.join(others)}" if others else ""
        where = f" in {', '.join(map(git.printable, files[:3]))}" if files else ""
        if kind == Conflict.Kind.MERGE:
            reason = f"its change conflicts{with_others}{where}"
        else:
            reason = f"it fails when combined{with_others or ' with the branch'}"
        error = f"{reason[0].upper()}{reason[1:]}.\n{text}"[: verdict.ERROR_LENGTH]
        match outcome:
            case Conflict.Outcome.REWORK:
                settlement = wait(self._claim, WaitsOn.TIME, f"its next attempt, because {reason}")
                return replace(settlement, error=error)
            case Conflict.Outcome.MANUAL:
                settlement = wait(self._claim, WaitsOn.PERSON, f"a person, because {reason}")
                return replace(settlement, error=error)
            case _:
                settlement = verdict.failed(claim=self._claim, spec=self.attempt.spec, error=error, permanent=True)
                return replace(settlement, has_change=True)


def wait_for_person(attempt: WorkspaceAttempt) -> Settlement:
    """The settlement of an attempt that started although a person has to decide first, after a restore for example."""
    assert attempt.conflict is not None
    reason = attempt.conflict.text or "its change conflicts"
    return wait(attempt.claim, WaitsOn.PERSON, f"a person, because {reason}")


def wait(claim: Claim, on: WaitsOn, waits_for: str, *, blocked_by: UUID | None = None) -> Settlement:
    """The settlement of an attempt whose work is committed, and whose sortie waits for something else."""
    return Settlement(
        id=claim.id,
        attempt=claim.attempt,
        state="waiting",
        outcome="committed",
        waits_on=on,
        waits_for=waits_for[:500],
        blocked_by=blocked_by,
        has_change=True,
    )
