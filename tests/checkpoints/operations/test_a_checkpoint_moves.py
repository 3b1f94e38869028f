"""A checkpoint moves to another fleet as one file, and becomes a mission of the user who imports it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User

from checkpoints import operations
from checkpoints.files import storage
from fleet import errors
from fleet.audit.models import Entry
from fleet.events.models import Event
from missions import operations as missions
from missions.artifacts import collection
from missions.engine.process.runtime import Engine
from missions.models import Artifact, Attempt, Mission, Sortie
from missions.queries import counters, mission_results
from tests.support import artifacts, fleet
from tests.support.checkpoints import DIAMOND, digest, manifest, saved_digest
from tests.support.work import archives

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_mission_that_ended_arrives_exactly(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    result = archives.import_bytes(archives.export(checkpoint))
    assert (result.mission.state, result.missing) == ("succeeded", ())
    assert digest(result.mission) == saved_digest(result.checkpoint) == saved_digest(checkpoint)
    assert mission_results.last_result(result.mission) == mission_results.last_result(mission)
    assert result.mission.id != mission.id
    assert set(result.mission.sorties.values_list("attempt", flat=True)) == {1}


def test_a_live_mission_arrives_as_planned_and_runs_to_its_end(engine: Engine) -> None:
    checkpoint = operations.capture(missions=[fleet.launch(DIAMOND).id])
    result = archives.import_bytes(archives.export(checkpoint)).mission
    assert result.state == "planned"
    assert digest(result) == saved_digest(checkpoint)
    fleet.beat()
    assert fleet.states(result.id)["top"] == "ready"
    missions.resume(mission=result.id, can_execute=True)
    assert fleet.run_to_end(engine, result) == "succeeded"


def test_sorties_that_have_ended_do_not_run_again(engine: Engine) -> None:
    mission = fleet.launch({"one": {}, "two": {"agent": "frontend", "needs": ["one"]}})
    engine.run_slot()
    checkpoint = operations.capture(missions=[mission.id])
    result = archives.import_bytes(archives.export(checkpoint)).mission
    assert (result.state, fleet.states(result.id)) == ("planned", {"one": "succeeded", "two": "ready"})
    assert digest(result) == saved_digest(checkpoint)


def test_a_running_sortie_is_due_after_the_import(engine: Engine) -> None:
    mission = fleet.launch({"one": {}})
    Sortie.objects.filter(mission=mission).update(
        state="running", attempt=7, lease_until=datetime.now(UTC) + timedelta(hours=1), agent_id=engine.agent
    )
    Attempt.objects.create(sortie=mission.sorties.get(), number=7, resume={"session": "secret"})
    result = archives.import_bytes(archives.export(operations.capture(missions=[mission.id])))
    row = Sortie.objects.get(mission=result.mission)
    assert (row.state, row.attempt, row.agent_id, row.attempts.count()) == ("ready", 0, None, 0)


def test_a_sortie_still_waits_for_its_run_at() -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    mission = fleet.launch({"one": {"run_at": later.isoformat()}})
    result = archives.import_bytes(archives.export(operations.capture(missions=[mission.id])))
    row = Sortie.objects.get(mission=result.mission)
    assert (row.state, row.wake_at) == ("waiting", later)


def test_sorties_added_at_run_time_arrive_with_their_needs(engine: Engine) -> None:
    extra = {"name": "extra[part=1]", "agent": "backend", "driver": "scripted", "before": ["later"]}
    mission = fleet.launch({"adder": {"with": {"add": [extra]}}, "later": {"needs": ["adder"]}})
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    assert digest(archives.import_bytes(archives.export(checkpoint)).mission) == saved_digest(checkpoint)


def test_an_exported_fork_can_be_imported(engine: Engine) -> None:
    extra = {"name": "extra", "agent": "backend", "driver": "scripted", "before": ["later"]}
    mission = fleet.launch({"adder": {"with": {"add": [extra]}}, "later": {"needs": ["adder"]}})
    fleet.run_to_end(engine, mission)
    forked = operations.fork(
        checkpoint=operations.capture(missions=[mission.id]), sorties=["adder"], can_execute=True
    ).mission
    checkpoint = operations.capture(missions=[forked.id])
    assert digest(archives.import_bytes(archives.export(checkpoint)).mission) == saved_digest(checkpoint)


def test_a_mission_whose_tolerated_failure_is_retried_can_be_moved(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    fleet.run_to_end(engine, mission)
    missions.retry_sortie(sortie=mission.sorties.get(key="right").id, can_execute=True)
    checkpoint = operations.capture(missions=[mission.id])
    assert digest(archives.import_bytes(archives.export(checkpoint)).mission) == saved_digest(checkpoint)


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_a_failed_mission_arrives_with_its_reasons(engine: Engine, end: str) -> None:
    mission = fleet.launch({"one": {"with": {"fail": "no"}}, "two": {"needs": ["one"]}})
    if end == "cancelled":
        missions.cancel(mission=mission.id, reason="enough")
    assert fleet.run_to_end(engine, mission) == end
    checkpoint = operations.capture(missions=[mission.id])
    result = archives.import_bytes(archives.export(checkpoint)).mission
    assert (result.state, digest(result)) == (end, saved_digest(checkpoint))
    assert result.reason == Mission.objects.get(id=mission.id).reason
    missions.retry(mission=result.id, can_execute=True)
    assert fleet.run_to_end(engine, result) == "failed"


def test_equal_checkpoints_are_equal_files() -> None:
    checkpoint = operations.capture(missions=[fleet.launch(DIAMOND).id])
    assert archives.export(checkpoint) == archives.export(checkpoint)


def test_an_import_can_be_exported_and_imported_again() -> None:
    first = archives.import_bytes(archives.export(operations.capture(missions=[fleet.launch(DIAMOND).id])))
    second = archives.import_bytes(archives.export(first.checkpoint))
    assert saved_digest(second.checkpoint) == saved_digest(first.checkpoint)


@pytest.mark.skipif(not shutil.which("tar"), reason="tar is not installed")
def test_it_can_be_opened_with_tar(tmp_path: Path) -> None:
    checkpoint = operations.capture(missions=[fleet.launch({"one": {}}).id])
    (tmp_path / "mission.tar").write_bytes(archives.export(checkpoint))
    subprocess.run(["tar", "-xf", "mission.tar"], cwd=tmp_path, check=True)
    document = json.loads((tmp_path / "manifest.json").read_text())
    assert document["id"] == checkpoint.ref
    assert (tmp_path / "blobs" / f"{document['missions'][0]['mission'][0]}.zst").exists()


def test_a_mission_among_several_is_exported_by_its_id() -> None:
    first, second = fleet.launch({"one": {}}), fleet.launch({"two": {}})
    checkpoint = operations.capture(missions=[first.id, second.id])
    out = io.BytesIO()
    with pytest.raises(errors.Invalid, match="several missions"):
        operations.export(checkpoint=checkpoint, out=out)
    assert not out.getvalue()
    operations.export(checkpoint=checkpoint, out=out, mission=second.id)
    assert set(fleet.states(archives.import_bytes(out.getvalue()).mission.id)) == {"two"}


def test_a_damaged_checkpoint_is_not_exported() -> None:
    checkpoint = operations.capture(missions=[fleet.launch(DIAMOND).id])
    (entry,) = manifest(checkpoint).missions
    storage.remove_blob(list(entry.buckets.values())[-1].blob)
    out = io.BytesIO()
    with pytest.raises(storage.CheckpointDamaged):
        operations.export(checkpoint=checkpoint, out=out)
    with pytest.raises(errors.Invalid, match="incomplete"):
        archives.import_bytes(out.getvalue())


def test_artifacts_travel_with_their_bytes(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    fleet.run_to_end(engine, mission)
    artifact = artifacts.add(mission.sorties.get(key="top"), path="out/report.txt")
    checkpoint = operations.capture(missions=[mission.id])
    data = archives.export(checkpoint, artifacts=True)
    assert archives.member_names(data)[-1] == f"artifacts/{artifact.digest}"
    Artifact.objects.all().delete()
    collection.delete(artifact.digest)
    result = archives.import_bytes(data, by=User.objects.create_user("ann"))
    row = Artifact.objects.get(sortie__mission=result.mission)
    with collection.open_stored(row) as file:
        assert file.read() == b"report"
    assert (digest(result.mission), result.missing) == (saved_digest(checkpoint), ())


def test_an_import_without_bytes_lists_the_artifacts_that_it_left_out(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    fleet.run_to_end(engine, mission)
    artifact = artifacts.add(mission.sorties.get(key="top"), path="out/report.txt")
    data = archives.export(operations.capture(missions=[mission.id]))
    Artifact.objects.all().delete()
    collection.delete(artifact.digest)
    result = archives.import_bytes(data)
    assert result.missing == ("top: out/report.txt",)
    assert not Artifact.objects.filter(sortie__mission=result.mission).exists()
    assert digest(result.mission) == saved_digest(result.checkpoint)


def test_an_export_lists_the_artifacts_that_the_store_has_lost(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    fleet.run_to_end(engine, mission)
    artifact = artifacts.add(mission.sorties.get(key="top"), path="out/report.txt")
    checkpoint = operations.capture(missions=[mission.id])
    collection.delete(artifact.digest)
    result = operations.export(checkpoint=checkpoint, out=io.BytesIO(), artifacts=True)
    assert (result.missing, result.artifacts) == (("top: out/report.txt",), 0)


def test_it_belongs_to_the_importer_and_starts_from_the_importers_folder(tmp_path: Path, settings: object) -> None:
    settings.FLEET_FOLDERS = (str(tmp_path),)  # type: ignore[attr-defined]
    (tmp_path / "mine").mkdir()
    mission = fleet.launch({"one": {}}, folder="/srv/theirs", readable=["/etc/theirs"])
    Mission.objects.filter(id=mission.id).update(template="theirs")
    ann, team = User.objects.create_user("ann"), Group.objects.create(name="payments")
    ann.groups.add(team)
    data = archives.export(operations.capture(missions=[mission.id]))
    result = operations.import_file(
        file=io.BytesIO(data), by=ann, can_execute=True, folder=str(tmp_path / "mine"), team=team
    )
    row = result.mission
    assert (row.created_by, row.team, row.template, row.can_execute) == (ann, team, "", True)
    assert (row.folder, row.readable) == (str(tmp_path / "mine"), [])
    assert (result.checkpoint.created_by, result.checkpoint.owner, result.checkpoint.trigger) == (ann, ann, "import")
    assert digest(row) == saved_digest(result.checkpoint)
    operations.restore(checkpoint=result.checkpoint, can_execute=True)
    row.refresh_from_db()
    assert (row.folder, row.readable) == (str(tmp_path / "mine"), [])


def test_export_and_import_are_recorded() -> None:
    mission = fleet.launch({"one": {}})
    checkpoint = operations.capture(missions=[mission.id])
    result = archives.import_bytes(archives.export(checkpoint))
    assert Event.objects.get(kind="checkpoint.exported").scope == mission.id
    assert Event.objects.get(kind="checkpoint.imported").scope == result.mission.id
    exported = Entry.objects.get(kind="checkpoint.export", subject=checkpoint.ref).after
    assert exported is not None
    assert exported["mission"] == mission.ref
    imported = Entry.objects.get(kind="checkpoint.import", subject=result.checkpoint.ref).after
    assert imported is not None
    assert imported["from"] == checkpoint.ref


def test_an_import_adds_nothing_to_the_totals(engine: Engine) -> None:
    mission = fleet.launch(DIAMOND)
    fleet.run_to_end(engine, mission)
    data = archives.export(operations.capture(missions=[mission.id]))
    counters.fold(wait=True)
    totals = counters.totals()
    archives.import_bytes(data)
    counters.fold(wait=True)
    assert counters.totals() == totals
