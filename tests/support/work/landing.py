"""Attempts of sorties with a workspace, step by step and without an engine: the copy, the commit, the merge, the end."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from agents.drivers.base import Evidence, Stop
from fleet import ids
from fleet.postgres import hot_path
from missions.claims import Claim
from missions.engine.attempts import preparation, scratch
from missions.engine.attempts.preparation import PreparedAttempt, TypeSettings
from missions.engine.changes.landing import Landing
from missions.engine.changes.workspace_attempt import WorkspaceAttempt
from missions.engine.output.buffer import OutputBuffer
from missions.engine.settlement import settle_and_claim
from missions.engine.settlement.settle_and_claim import Claimant
from missions.engine.settlement.settling import Settlement
from missions.models import Attempt, Brief, Change, Mission, Sortie
from missions.plan import SortieSpec


@dataclass
class ManualAttempt:
    """A running attempt. Each method is one part of what the engine does with it."""

    claim: Claim
    prepared: PreparedAttempt
    stop: Stop = field(default_factory=Stop)

    @property
    def workspace(self) -> WorkspaceAttempt:
        assert self.prepared.workspace is not None
        return self.prepared.workspace

    @property
    def output(self) -> OutputBuffer:
        return OutputBuffer(
            sortie=self.claim.id, attempt=self.claim.attempt, max_bytes=1_000_000, on_open=lambda _: None
        )

    def work(self, script: str) -> None:
        """Build the copy, and change it with a shell script."""
        failure, _ = self.workspace.make_copy(output=self.output, stop=self.stop)
        assert failure is None, failure
        subprocess.run(["/bin/sh", "-euc", script], cwd=self.workspace.copy.path, check=True)

    def commit(self) -> Change:
        evidence = Evidence(finished=True, ok=True, exit_code=0, result={"ok": True})
        return self.workspace.commit(evidence=evidence, added=(), output=self.output, stop=self.stop)

    def merge(self, change: Change | None = None) -> Settlement:
        """Merge the change of this attempt, or of an earlier one that has not been merged."""
        change = change or self.workspace.change
        assert change is not None
        return Landing(
            attempt=self.workspace, change=change, verify=self.prepared.verify, output=self.output, stop=self.stop
        ).run()

    def settle(self, settlement: Settlement) -> bool:
        """Whether the database has accepted the outcome."""
        claimant = Claimant(agent=ids.new(), agent_type="backend", lease_s=60)
        with hot_path.connect(name="test") as connection, connection.transaction(), connection.cursor() as cursor:
            return (
                self.claim.id
                in settle_and_claim.settle_and_claim(cursor, by=claimant, settlements=[settlement]).accepted
            )


def begin(mission: Mission, key: str) -> ManualAttempt:
    """Start the next attempt of a sortie in any state. An earlier attempt is lost."""
    with transaction.atomic():
        sortie = Sortie.objects.select_for_update().get(mission=mission, key=key)
        Attempt.objects.filter(sortie=sortie, state="running").update(state="lost", finished_at=timezone.now())
        Sortie.objects.filter(id=sortie.id).update(
            state="running",
            attempt=F("attempt") + 1,
            waits_on="",
            waits_for="",
            wake_at=None,
            finished_at=None,
            lease_until=timezone.now() + timedelta(minutes=10),
        )
        sortie.refresh_from_db()
        Attempt.objects.create(sortie=sortie, number=sortie.attempt)
    spec = Brief.objects.get(sortie=sortie).spec
    claim = Claim(
        id=sortie.id,
        mission=mission.id,
        key=key,
        attempt=sortie.attempt,
        tries=sortie.tries,
        max_tries=sortie.max_tries,
        spec=spec,
    )
    prepared = preparation.prepare(
        claim=claim,
        spec=SortieSpec.from_json(spec),
        type_settings=TypeSettings(agent_type="backend"),
        folder=scratch.path(claim.marker),
    )
    return ManualAttempt(claim=claim, prepared=prepared)


def land(mission: Mission, key: str, script: str) -> str:
    """Run a sortie from its copy to its end. Returns its final state."""
    step = begin(mission, key)
    step.work(script)
    settlement = step.merge(step.commit())
    assert step.settle(settlement)
    return Sortie.objects.get(id=step.claim.id).state
