"""Missions that were running when the backup was made continue after the restore: nothing is lost or done twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from agents import operations as agents
from agents.models import Agent, Node
from checkpoints import operations as checkpoints
from fleet import backup, ids
from fleet.backup import Backup, manifest
from fleet.events import stream
from fleet.events.models import Event
from fleet.host import processes
from fleet.postgres import hot_path
from fleet.postgres.commit_order import Position
from missions import operations as missions
from missions.claims import Claim
from missions.engine.settlement import settle_and_claim, settling
from missions.engine.settlement.settle_and_claim import Claimant
from missions.models import Attempt, Sortie
from missions.operations import external_agents
from missions.states import SortieState
from tests.support import fleet
from tests.support.checkpoints import digest
from tests.support.processes.installation import Installation
from tests.support.work import landing

LEASE_S = 1.0  # during restores


def claimant() -> Claimant:
    claimant = Claimant(agent=ids.new(), agent_type="backend", lease_s=30)
    agents.register(agent=claimant.agent, agent_type="backend", node="test", pid=1, start_time=0.0)
    return claimant


@contextmanager
def open_cursor() -> Iterator[Any]:
    with closing(hot_path.connect(name="test")) as session, session.cursor() as cursor:
        yield cursor


def claim(by: Claimant, max_claims: int = 1) -> list[Claim]:
    with open_cursor() as cursor:
        return settle_and_claim.settle_and_claim(cursor, by=by, max_claims=max_claims).claims


def settle(by: Claimant, claims: list[Claim]) -> set[Any]:
    outcomes = [settling.Settlement(id=c.id, attempt=c.attempt, state="succeeded", outcome="succeeded") for c in claims]
    with open_cursor() as cursor:
        return settle_and_claim.settle_and_claim(cursor, by=by, settlements=outcomes).accepted


def restore(snapshot: Backup) -> None:
    with override_settings(FLEET_LEASE_S=LEASE_S):
        backup.restore(backup=snapshot, force=connection.settings_dict["NAME"])


@pytest.fixture
def idle_installation(installation: Installation) -> Installation:
    """The installation, without missions of its own."""
    missions.cancel(mission=installation.mission.id)
    fleet.beat()
    return installation


def test_a_mission_continues_and_each_sortie_is_done_once(idle_installation: Installation) -> None:
    keys = [f"s{n}" for n in range(6)]
    mission, agent = fleet.launch({**{key: {} for key in keys}, "end": {"needs": keys}}), claimant()
    settle(agent, claim(agent, max_claims=2))
    running = claim(agent, max_claims=2)
    snapshot = backup.create(folder=idle_installation.folder).backup
    settle(agent, running)
    restore(snapshot)

    assert {state for key, state in fleet.states(mission.id).items() if key != "end"} == {"succeeded", "waiting"}
    assert fleet.run_mission(mission) == "succeeded"
    outcomes = list(
        Attempt.objects.filter(sortie__mission=mission, state="succeeded").values_list("sortie__key", flat=True)
    )
    assert sorted(outcomes) == sorted([*keys, "end"])
    interrupted = Attempt.objects.filter(sortie__in=[c.id for c in running], state="lost")
    assert interrupted.count() == 2
    assert set(Sortie.objects.filter(mission=mission).values_list("tries", "rescues")) == {(0, 0)}


def test_agents_from_before_the_restore_are_fenced(idle_installation: Installation) -> None:
    """An attempt that was claimed after the backup has a number that the restored rows do not know."""
    mission, agent = fleet.launch({"a": {}, "b": {}}), claimant()
    (running,) = claim(agent)
    snapshot = backup.create(folder=idle_installation.folder).backup
    (later,) = claim(agent)
    restore(snapshot)

    assert settle(agent, [running, later]) == set()
    assert claim(claimant(), max_claims=2) == [], "a sortie started while an earlier attempt may still run"
    fleet.beat_until(lambda: Sortie.objects.filter(mission=mission, state="queued").count() == 2)
    new_claims = claim(claimant(), max_claims=2)
    assert {c.id for c in new_claims} == {running.id, later.id}
    assert settle(agent, [running, later]) == set()
    assert Sortie.objects.filter(mission=mission, state="running").count() == 2


def test_agents_of_the_backup_have_ended_and_external_ones_may_go_on(idle_installation: Installation) -> None:
    agent, external = claimant(), external_agents.register(agent_type="backend")
    snapshot = backup.create(folder=idle_installation.folder).backup
    restore(snapshot)
    restored = Agent.objects.get(id=agent.agent)
    assert (restored.state, restored.reason) == ("terminated", "The database was restored from a backup.")
    assert Agent.objects.get(id=external.id).state == "idle"
    assert not Event.objects.filter(kind="agent.lost").exists()


def test_a_restored_node_may_start_next_to_the_fleet_of_the_backup(idle_installation: Installation) -> None:
    """As when a restore is practised on the host of a running fleet, whose processes the new node must leave alone."""
    pid = os.getpid()
    start_time = processes.start_time_of(pid)
    assert start_time is not None
    running = agents.join(name="host", pid=pid, start_time=start_time)
    agents.register(agent=ids.new(), agent_type="backend", node="host", pid=pid, start_time=start_time)
    snapshot = backup.create(folder=idle_installation.folder).backup
    assert agents.surviving_processes(name="host") == [(pid, start_time)]
    restore(snapshot)

    assert not Node.objects.get(id=running.id).up
    assert agents.surviving_processes(name="host") == []
    assert agents.join(name="host", pid=pid + 1, start_time=start_time).id == running.id


def test_a_retried_sortie_is_fenced_too(idle_installation: Installation) -> None:
    mission, agent = fleet.launch({"a": {}}), claimant()
    missions.cancel(mission=mission.id)
    fleet.beat()
    snapshot = backup.create(folder=idle_installation.folder).backup
    missions.retry(mission=mission.id, can_execute=True)
    fleet.beat_until(lambda: Sortie.objects.filter(mission=mission, state="queued").exists())
    (zombie,) = claim(agent)
    restore(snapshot)
    assert fleet.states(mission.id) == {"a": "cancelled"}
    missions.retry(mission=mission.id, can_execute=True)
    fleet.beat_until(lambda: Sortie.objects.filter(mission=mission, state="queued").exists())
    (new_claim,) = claim(claimant())
    assert settle(agent, [zombie]) == set()
    assert new_claim.attempt > zombie.attempt


def test_a_cancelled_sortie_stays_cancelled(idle_installation: Installation) -> None:
    mission, agent = fleet.launch({"a": {}, "b": {}}), claimant()
    (running,) = claim(agent)
    missions.cancel_sortie(sortie=running.id)
    snapshot = backup.create(folder=idle_installation.folder).backup
    restore(snapshot)
    fleet.beat_until(lambda: Sortie.objects.get(id=running.id).state == SortieState.CANCELLED)
    assert fleet.run_mission(mission) == "failed"


def test_accepted_outcomes_keep_their_results(idle_installation: Installation) -> None:
    mission = fleet.launch({"a": {"if": "always"}})
    assert fleet.run_mission(mission) == "succeeded"
    snapshot = backup.create(folder=idle_installation.folder).backup
    restore(snapshot)
    sortie = Sortie.objects.get(mission=mission)
    assert sortie.attempt > sortie.accepted_attempt == 1
    assert Attempt.objects.get(sortie=sortie, number=sortie.accepted_attempt).state == "succeeded"


def test_a_branch_that_is_ahead_of_the_rows_is_moved_back(installation: Installation) -> None:
    """Git is copied after the database, so it may contain work that the rows do not know and that would land twice."""
    before = installation.branch().tip
    snapshot = backup.create(folder=installation.folder).backup
    assert landing.land(installation.mission, "next", "echo c > c.txt") == "succeeded"
    result = backup.restore(backup=snapshot, force=connection.settings_dict["NAME"])
    assert installation.branch().tip == before
    assert landing.land(installation.mission, "next", "echo c > c.txt") == "succeeded"
    assert installation.branch().files() == ["a.txt", "b.txt", "c.txt"]
    assert result.notes == ()


def test_commits_that_the_rows_do_not_know_are_removed_from_the_branch(installation: Installation) -> None:
    before = installation.branch().tip
    snapshot = backup.create(folder=installation.folder).backup
    assert landing.land(installation.mission, "next", "echo c > c.txt") == "succeeded"
    later = backup.create(folder=installation.folder).backup
    # As if the commit had landed between the snapshot and the copy of the repository.
    mixed_backup = MixedBackup(rows=snapshot, files=later)
    result = backup.restore(backup=mixed_backup.backup, force=connection.settings_dict["NAME"])
    assert installation.branch().tip == before
    assert f"was moved back to {before[:12]}" in result.notes[0]
    assert landing.land(installation.mission, "next", "echo c > c.txt") == "succeeded"
    assert installation.branch().subjects()[-1].startswith("next")


class MixedBackup:
    """A backup with the rows of one backup and the repositories of a later one."""

    def __init__(self, *, rows: Backup, files: Backup) -> None:
        path = files.path
        (path / manifest.DUMP).unlink()
        shutil.copyfile(rows.path / manifest.DUMP, path / manifest.DUMP)
        fields = {name: getattr(rows.manifest, name) for name in rows.manifest.__dataclass_fields__}
        dump = [file for file in rows.manifest.files if file.path == manifest.DUMP]
        others = [file for file in files.manifest.files if file.path != manifest.DUMP]
        mixed_backup = manifest.BackupManifest(**{**fields, "name": files.name, "files": (*dump, *others)})
        (path / manifest.NAME).write_bytes(mixed_backup.serialize())
        self.backup = Backup(path)


def test_readers_of_events_continue_in_another_cluster(idle_installation: Installation) -> None:
    """There, transactions may have smaller numbers than those of the restored events."""
    mission = fleet.launch({"a": {}})
    checkpoint = checkpoints.capture(missions=[mission.id])
    Event.objects.update(xid=1 << 40)  # as in a cluster with much higher transaction numbers
    snapshot = backup.create(folder=idle_installation.folder).backup
    restore(snapshot)
    events = list(stream.since(last=Position(), scope=mission.id))
    assert {event.kind for event in events} >= {"mission.running", "sortie.queued", "sortie.waiting"}
    assert [event.id for event in events] == sorted(event.id for event in events)

    assert fleet.run_mission(mission) == "succeeded"
    (last,) = [checkpoints.capture(missions=[mission.id])]
    assert checkpoints.verify(checkpoints=[last, checkpoint]) == []
    missions_digest = digest(mission)
    assert last.ended == 1
    assert missions_digest


def test_the_next_checkpoint_is_a_full_capture(idle_installation: Installation) -> None:
    """A checkpoint that is newer than the restored rows says nothing about what has changed since."""
    mission, agent = fleet.launch({"a": {}, "b": {}}), claimant()
    checkpoints.capture(missions=[mission.id])
    snapshot = backup.create(folder=idle_installation.folder).backup
    settle(agent, claim(agent, max_claims=2))
    newer = checkpoints.capture(missions=[mission.id])
    restore(snapshot)
    assert not type(newer).objects.filter(id=newer.id).exists()
    now = checkpoints.capture(missions=[mission.id])
    assert (now.ended, checkpoints.verify(checkpoints=[now])) == (0, [])
