"""An attempt that works in a copy of the mission's repository: prepare the copy, and commit what changed.

Only what has landed on the mission's branch has succeeded: missions/engine/changes/landing.py merges it. The parts are
in `missions/workspaces`, the rules in docs/workspaces.md.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.conf import settings

from agents import drivers
from agents.drivers.base import AttemptBrief, Evidence, Stop
from agents.shim import beneath
from fleet import errors, ids, values
from missions.claims import Claim
from missions.engine.changes.records import ChangeRecords
from missions.engine.outages import Stopped, until_answered
from missions.engine.output.buffer import OutputBuffer
from missions.models import Change, Conflict, Patch, SavedWork, Workspace
from missions.plan import SortieSpec
from missions.workspaces import branches, commits, conflicts, copies, refusals
from missions.workspaces.commits import Commit, Message
from missions.workspaces.repositories import git, mirrors, sources
from missions.workspaces.reservation_index import ReservedPattern

log = logging.getLogger("fleet.workspaces")

NO_CHANGE, CONFLICT = "no_change.txt", "conflict.json"  # files in the scratch folder
NO_CHANGE_BYTES = 2_000


@dataclass(slots=True, kw_only=True)
class WorkspaceAttempt:
    """One attempt of a sortie that has a workspace.

    `change` is earlier work of the sortie that is not merged yet, or that conflicts; `conflict` is its newest conflict.
    """

    claim: Claim
    spec: SortieSpec
    workspace: Workspace
    mission_name: str
    change: Change | None
    conflict: Conflict | None
    leftover: int = 0  # the number of an earlier attempt that ended without a commit
    patch: Patch | None = None  # the work of an external agent, not committed yet
    saved: SavedWork | None = None  # uncommitted work that a restore has put back, from which this attempt continues
    shared_brief: AttemptBrief | None = None  # what all commands of the attempt share; see `use_brief`
    tip: str = ""  # the commit that the attempt starts from
    holder: ReservedPattern | None = None  # reserves files that this attempt has changed, so it is merged first
    checked_tree: str = ""  # of the copy, before the sortie's `verify` began

    # ── Before the work ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def mirror(self) -> Path:
        return mirrors.of(self.workspace.repository)

    @property
    def records(self) -> ChangeRecords:
        return ChangeRecords(claim=self.claim, workspace=self.workspace)

    @property
    def copy(self) -> copies.Copy:
        return copies.of(sortie=self.claim.id, mirror=self.mirror)

    @property
    def only_merges(self) -> bool:
        """Whether the work is done and only needs to be merged."""
        return self.change is not None and self.change.state in Change.TO_MERGE

    @property
    def waits_for_person(self) -> bool:
        """Whether a person must still decide about the newest conflict."""
        return (
            self.change is not None
            and self.change.state == Change.State.CONFLICTED
            and self.conflict is not None
            and self.conflict.outcome == Conflict.Outcome.MANUAL
        )

    def use_brief(self, brief: AttemptBrief) -> AttemptBrief:
        """Turn the shared brief of an attempt into that of work in the copy, and use it for all commands."""
        self.shared_brief = replace(
            brief,
            copy=self.copy.path,
            shared=(self.mirror,),
            writable=(),
            env={**brief.env, "FLEET_NO_CHANGE": str(brief.scratch / NO_CHANGE)},
        )
        return self.shared_brief

    def make_copy(self, *, output: OutputBuffer, stop: Stop) -> tuple[Evidence | None, dict[str, Any] | None]:
        """Build the copy, and run the plan's `setup` in it.

        Returns the evidence of a failed setup, else None; and the description of the conflict that this attempt must
        resolve, if there is one. The description is then also in the scratch folder.
        """
        workspace = self.workspace
        git.require()
        mirror = mirrors.ensure(workspace.repository, commit=workspace.base_commit)
        self.tip = mirrors.tip(mirror, workspace.branch, start=workspace.base_commit)
        tree, description = "", None
        if self.change is not None and self.conflict is not None:
            merged = branches.merge(mirror, onto=self.tip, commit=self.change.commit)
            tree = merged.tree
            description = conflicts.describe(
                mirror=mirror, change=self.change, conflict=self.conflict, tip=self.tip, files=merged.files
            )
            text = json.dumps(description, ensure_ascii=False, indent=1)
            (self._brief.scratch / CONFLICT).write_text(text, encoding="utf-8", errors="replace")
        if self.saved is not None:
            self.tip, tree = self.saved.base, branches.tree_of(mirror, self.saved.commit)
        with copies.lock(self.copy, attempt=self.claim.attempt) as descriptor:
            stop_if_asked(stop)
            if self.leftover and self.copy.exists:
                self._keep_leftovers(self.leftover)
            self.build(tip=self.tip, tree=tree, descriptor=descriptor)
        return self.set_up(output=output, stop=stop), description

    def commit_patch(self, *, output: OutputBuffer, stop: Stop) -> Change | Evidence:
        """Commit the patch of an external agent. Returns the change, or the evidence of a failed setup.

        Raises CommitRefused if the patch may not be committed, or does not apply to the commit that it is based on.
        """
        assert self.patch is not None
        git.require()
        mirror = mirrors.ensure(self.workspace.repository, commit=self.workspace.base_commit)
        tip = mirrors.tip(mirror, self.workspace.branch, start=self.workspace.base_commit)
        self.tip = self.patch.base
        if not mirrors.contains(mirror, commit=self.tip, ref=tip):
            raise refusals.CommitRefused(
                f"{self.tip[:12]} is not on the branch {self.workspace.branch}.", hint="Send the `base` of the claim."
            )
        with copies.lock(self.copy, attempt=self.claim.attempt) as descriptor:
            stop_if_asked(stop)
            self.build(tip=self.tip, descriptor=descriptor)
            commits.apply(self.copy, patch=bytes(self.patch.data), max_bytes=settings.FLEET_COMMIT_BYTES)
        if (failure := self.set_up(output=output, stop=stop)) is not None:
            return failure
        evidence = Evidence(finished=True, ok=True, result=json.loads(self.patch.result))
        added = tuple(map(SortieSpec.from_json, self.patch.added_sorties))
        return self.commit(evidence=evidence, added=added, output=output, stop=stop)

    def drop_patch(self, *, stop: Stop) -> None:
        """Delete a patch that cannot be committed, so that the next attempt does the work again."""
        if self.patch is not None:
            until_answered(lambda: Patch.objects.filter(sortie=self.claim.id).delete(), stop=stop)

    def build(self, *, tip: str, descriptor: int, tree: str = "") -> None:
        """Build the copy, with the ignored files that `.worktreeinclude` names. The caller holds its lock."""
        workspace = self.workspace
        copies.make(
            self.copy,
            branch=workspace.branch,
            tip=tip,
            author=self.spec.agent_type,
            tree=tree,
            descriptor=descriptor,
        )
        if not sources.is_address(workspace.repository):
            copies.include_ignored(self.copy, repository=Path(workspace.repository), base=workspace.base_commit)

    def set_up(self, *, output: OutputBuffer, stop: Stop) -> Evidence | None:
        if self.workspace.setup is None:
            return None
        evidence = self.run_command(self.workspace.setup, output=output, stop=stop)
        if evidence.ok:
            return None
        return replace(
            evidence, error=f"`setup` of the workspace failed: {evidence.error or 'it exited with an error'}"
        )

    def with_conflict(self, brief: AttemptBrief, description: dict[str, Any] | None) -> AttemptBrief:
        """The brief of the work, with the conflict that it must resolve."""
        if description is None:
            return brief
        path = brief.scratch / CONFLICT
        stdin = conflicts.prompt(description, path=path) + brief.stdin if self.spec.driver == "prompt" else brief.stdin
        return replace(brief, stdin=stdin, env={**brief.env, "FLEET_CONFLICT": str(path)})

    def _keep_leftovers(self, number: int) -> None:
        """Commit the work of an attempt that ended without a commit, for example because its agent was lost."""
        with suppress(errors.FleetError, OSError):
            commit = self._commit(number, base=self.copy.base, secret="")
            if commit.files:
                log.info("%s: kept the work of attempt %d, which ended without a commit", self.claim.marker, number)

    # ── After the work ───────────────────────────────────────────────────────────────────────────────────────────────

    def keep(self) -> None:
        """Commit the work of an unsuccessful attempt, so that people can look at it. Never raises."""
        try:
            with copies.lock(self.copy, attempt=self.claim.attempt):
                commit = self._commit(self.claim.attempt, base=self.tip, secret=self._secret)
            if commit.files:
                self.records.save(commit, state=Change.State.KEPT)
        except (errors.FleetError, OSError) as error:
            log.warning("%s: its work could not be kept: %s", self.claim.marker, error)

    def note_tree(self) -> None:
        """Note the tree that the sortie's `verify` checks, because `verify` may change it."""
        with copies.lock(self.copy, attempt=self.claim.attempt):
            self.checked_tree = commits.write_tree(self.copy, max_bytes=settings.FLEET_COMMIT_BYTES)

    def commit(self, *, evidence: Evidence, added: Sequence[SortieSpec], output: OutputBuffer, stop: Stop) -> Change:
        """Commit the work of a successful attempt.

        Raises CommitRefused if it may not be committed, and NothingChanged if the plan requires a change and there is
        none.
        """
        merged = (self.tip, self.change.commit) if self.change is not None else ()
        with copies.lock(self.copy, attempt=self.claim.attempt):
            stop_if_asked(stop)
            commit = self._commit(self.claim.attempt, base=self.tip, secret=self._secret, merged=merged)
        no_change = "" if commit.files else self._no_change_reason()
        if not commit.files and not no_change and self.spec.changes == "required" and self.change is None:
            raise NothingChanged
        if commit.files:
            print_line(output, f"Committed {_amount(commit)} as {commit.commit[:12]}.")
        change, self.holder = until_answered(
            lambda: self.records.save_committed(
                commit,
                no_change=no_change,
                result=values.encode(evidence.result),
                exit_code=evidence.exit_code,
                added_sorties=[spec.as_json() for spec in added],
            ),
            stop=stop,
        )
        if self.spec.verify is not None and commit.tree == self.checked_tree:
            until_answered(lambda: self.records.note_verified(commit.tree, self.spec.verify, own=True), stop=stop)
        return change

    # ── Helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _brief(self) -> AttemptBrief:
        assert self.shared_brief is not None, "call `use_brief` first"
        return self.shared_brief

    @property
    def _secret(self) -> str:
        return self._brief.token.rpartition(".")[2]

    def _commit(self, number: int, *, base: str, secret: str, merged: Sequence[str] = ()) -> Commit:
        return commits.commit(
            self.copy,
            base=base,
            message=self.message(number),
            ref=f"{mirrors.ATTEMPTS}/{ids.encode(ids.SORTIE, self.claim.id)}/{number}",
            max_bytes=settings.FLEET_COMMIT_BYTES,
            secret=secret,
            merged=merged,
        )

    def message(self, number: int) -> Message:
        sortie = ids.encode(ids.SORTIE, self.claim.id)
        return Message(
            author=self.spec.agent_type,
            subject=f"{self.claim.key}: {self.mission_name}"[:100],
            trailers={
                "Fleet-Mission": ids.encode(ids.MISSION, self.claim.mission),
                "Fleet-Sortie": f"{self.claim.key} {sortie}",
                "Fleet-Attempt": str(number),
            },
        )

    def run_command(self, command: str | list[str], *, output: OutputBuffer, stop: Stop) -> Evidence:
        """Run a command of the workspace in the copy."""
        brief = replace(self._brief, cwd=self.copy.path, outputs=(), outbox=None, resume=None)
        brief = replace(brief, argv=tuple(command)) if isinstance(command, list) else replace(brief, shell=command)
        return drivers.get("command").run(brief=brief, reporter=output, stop=stop)

    def _no_change_reason(self) -> str:
        """The reason for changing nothing, which the workload wrote to FLEET_NO_CHANGE; "" if it wrote none."""
        with suppress(OSError, UnicodeDecodeError):
            folder = beneath.open_path(self._brief.scratch, folder=True)
            try:
                with open(beneath.open_plain(folder, NO_CHANGE), "rb") as file:
                    text = file.read(NO_CHANGE_BYTES).decode("utf-8", "replace")
                return " ".join(self._brief.redactor().text(text).replace("\x00", "").split())[:500]
            finally:
                os.close(folder)
        return ""


class NothingChanged(errors.Unavailable):
    """The attempt succeeded, but changed nothing although the plan requires a change."""

    def __init__(self) -> None:
        super().__init__(
            "The workload succeeded but changed no files.",
            hint="If no change is needed, let it write the reason to $FLEET_NO_CHANGE, or set changes: optional.",
        )


def stop_if_asked(stop: Stop) -> None:
    """Raise Stopped if the attempt must stop."""
    if stop.reason is not None:
        raise Stopped


def print_line(output: OutputBuffer, text: str) -> None:
    """Print a line to the output of the attempt."""
    output.output(stream="fleet", data=f"{text}\n".encode())


def _amount(commit: Commit) -> str:
    files = "1 file" if len(commit.files) == 1 else f"{len(commit.files):,} files"
    return f"{files} (+{commit.lines_added:,} −{commit.lines_removed:,})"
