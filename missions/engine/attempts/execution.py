"""One attempt, from claim to verdict: prepare, run the driver, verify, collect, judge.

No transaction and no database connection is held while a driver works.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass, replace

from agents import drivers
from agents.drivers import reaper
from agents.drivers.base import AttemptBrief, Evidence, Stop
from fleet import errors
from fleet.observability import logs
from missions import removal
from missions.artifacts import collection
from missions.claims import Claim
from missions.engine.attempts import added_sorties, preparation, scratch
from missions.engine.attempts.preparation import PreparedAttempt, TypeSettings
from missions.engine.changes import landing
from missions.engine.changes.landing import Landing
from missions.engine.changes.workspace_attempt import WorkspaceAttempt
from missions.engine.outages import Stopped, until_answered
from missions.engine.output.buffer import OutputBuffer
from missions.engine.settlement import verdict
from missions.engine.settlement.settling import Settlement
from missions.models import Change
from missions.plan import SortieSpec
from missions.workspaces import refusals

log = logging.getLogger("fleet.execution")


def execute(*, claim: Claim, type_settings: TypeSettings, output: OutputBuffer, stop: Stop) -> Settlement:
    """Execute one attempt and judge it. While Postgres does not answer, it retries until the attempt is stopped."""
    spec = SortieSpec.from_json(claim.spec)
    folder = scratch.path(claim.marker)
    attempt = _Attempt(claim=claim, spec=spec, output=output, stop=stop)
    log_token = logs.work_fields.set(claim.log_fields)
    try:
        _end_earlier_attempts(claim)
        attempt.prepared = until_answered(
            lambda: preparation.prepare(claim=claim, spec=spec, type_settings=type_settings, folder=folder), stop=stop
        )
        return attempt.run()
    except Stopped:
        return verdict.judge(claim=claim, spec=spec, evidence=Evidence(finished=False, ok=False, stopped=stop.reason))
    except errors.FleetError as error:
        # An error in the plan is permanent. The next try may produce other outputs and other changes.
        retryable = (collection.UnusableOutput, refusals.CommitRefused)
        permanent = isinstance(error, errors.Invalid) and not isinstance(error, retryable)
        return attempt.failed(str(error), permanent=permanent)
    except Exception as error:  # drivers return evidence; anything that they raise is a defect and costs one try
        log.exception("%s: its driver raised an exception", claim.marker)
        return attempt.failed(f"{type(error).__name__}: {error}")
    finally:
        logs.work_fields.reset(log_token)
        if spec.driver != "scripted":
            removal.remove(folder)
            if spec.outputs:
                removal.remove(scratch.outbox(claim.marker))


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """The steps of one attempt, from its preparation to its settlement."""

    claim: Claim
    spec: SortieSpec
    output: OutputBuffer
    stop: Stop
    prepared: PreparedAttempt | None = None

    def run(self) -> Settlement:
        prepared, workspace = self._prepared, self._prepared.workspace
        if workspace is None:
            return self._judge(*self._work(prepared.brief))
        change = workspace.change
        if change is not None and workspace.only_merges:
            return self._land(workspace, change)
        if change is not None and workspace.waits_for_person:
            return landing.wait_for_person(workspace)
        if workspace.patch is not None:
            return self._commit_patch(workspace)
        failure, conflict = workspace.make_copy(output=self.output, stop=self.stop)
        if failure is not None:
            return self._judge(failure, ())
        evidence, added = self._work(workspace.with_conflict(prepared.brief, conflict))
        if not evidence.ok:
            workspace.keep()
            return self._judge(evidence, ())
        change = workspace.commit(evidence=evidence, added=added, output=self.output, stop=self.stop)
        return self._land(workspace, change)

    def failed(self, error: str, *, permanent: bool = False) -> Settlement:
        """The settlement of an attempt that ended with an error."""
        if self.prepared is not None:
            error = self.prepared.brief.redactor().text(error)
        return self._with_change(verdict.failed(claim=self.claim, spec=self.spec, error=error, permanent=permanent))

    @property
    def _prepared(self) -> PreparedAttempt:
        assert self.prepared is not None
        return self.prepared

    def _land(self, workspace: WorkspaceAttempt, change: Change) -> Settlement:
        verify = self._prepared.verify
        return Landing(attempt=workspace, change=change, verify=verify, output=self.output, stop=self.stop).run()

    def _commit_patch(self, workspace: WorkspaceAttempt) -> Settlement:
        try:
            change = workspace.commit_patch(output=self.output, stop=self.stop)
        except refusals.CommitRefused:
            workspace.drop_patch(stop=self.stop)
            raise
        if isinstance(change, Evidence):
            return self._judge(change, ())
        return self._land(workspace, change)

    def _work(self, brief: AttemptBrief) -> tuple[Evidence, tuple[SortieSpec, ...]]:
        """Run the driver and `verify`, and store the outputs. Returns the evidence and the sorties to add."""
        prepared, stop = self._prepared, self.stop
        if prepared.verify is not None:  # outputs are copied after `verify`: what is stored is what was verified
            brief = replace(brief, outputs=())
        evidence = prepared.driver.run(brief=brief, reporter=self.output, stop=stop)
        if evidence.ok and prepared.verify is not None:
            if prepared.workspace is not None:
                prepared.workspace.note_tree()
            evidence = _verify(prepared.verify, evidence=evidence, output=self.output, stop=stop)
        added: tuple[SortieSpec, ...] = ()
        if evidence.ok:
            if items := evidence.added:
                added = until_answered(lambda: added_sorties.check(claim=self.claim, items=items), stop=stop)
            _collect(claim=self.claim, spec=self.spec, evidence=evidence, stop=stop)
        if evidence.error:
            evidence = replace(evidence, error=brief.redactor().text(evidence.error))
        return evidence, added

    def _judge(self, evidence: Evidence, added: tuple[SortieSpec, ...]) -> Settlement:
        return self._with_change(verdict.judge(claim=self.claim, spec=self.spec, evidence=evidence, added=added))

    def _with_change(self, settlement: Settlement) -> Settlement:
        """The settlement, which covers the change and the lane too if the attempt has a workspace."""
        has_workspace = self.prepared is not None and self.prepared.workspace is not None
        return replace(settlement, has_change=True) if has_workspace else settlement


def _end_earlier_attempts(claim: Claim) -> None:
    """Kill processes of earlier attempts on this host: an agent that was declared lost may only have been paused."""
    if claim.attempt > 1 and (survivors := reaper.reap_earlier(claim.marker)):
        raise errors.Conflict(
            f"An earlier attempt is still running on {socket.gethostname()} and cannot be killed: pid "
            f"{', '.join(map(str, sorted(survivors)[:10]))}.",
            hint="Kill it there, then retry the sortie.",
        )


def _verify(brief: AttemptBrief, *, evidence: Evidence, output: OutputBuffer, stop: Stop) -> Evidence:
    """Run the plan's `verify` command in the same place and environment. The attempt succeeds only if it passes."""
    verified = drivers.get("command").run(brief=brief, reporter=output, stop=stop)
    if verified.ok:
        return replace(evidence, outputs=verified.outputs)
    return replace(
        evidence,
        ok=False,
        stopped=verified.stopped,
        exit_code=verified.exit_code,
        permanent=verified.permanent,
        error=f"The workload succeeded, but `verify` failed: {verified.error or 'it exited with an error'}",
    )


def _collect(*, claim: Claim, spec: SortieSpec, evidence: Evidence, stop: Stop) -> None:
    """Store the files of the plan's `outputs`, which the attempt's shim has copied to the outbox."""
    if spec.outputs and spec.driver != "scripted":
        copies = dict(zip(spec.outputs, evidence.outputs, strict=True))
        outbox = scratch.outbox(claim.marker)
        until_answered(lambda: collection.collect(claim=claim, copies=copies, outbox=outbox), stop=stop)
