"""A backup of a working fleet, restored after everything was lost, brings all rows and all files back."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from checkpoints import operations as checkpoints
from fleet import backup, errors
from fleet.access.models import Session
from fleet.audit import protection, verification
from fleet.backup import restoring
from fleet.postgres import roles
from missions.artifacts import collection
from missions.models import Artifact, Mission
from missions.workspaces.repositories import git
from tests.support import fleet
from tests.support.processes.installation import TEXT, Installation, hashes


def restore(copy: backup.Backup) -> backup.BackupRestoreResult:
    return backup.restore(backup=copy)


def test_rows_and_files_come_back(installation: Installation) -> None:
    before, tip = hashes(), installation.branch().tip
    report = backup.create(folder=installation.folder)
    installation.wipe()
    result = restore(report.backup)

    assert before.keys() - hashes().keys() == set()
    assert {name: value for name, value in hashes().items() if name in before} == before
    assert installation.branch().tip == tip
    assert git.line("show", f"{tip}:b.txt", at=installation.branch().mirror) == "b"
    with collection.open_stored(Artifact.objects.get()) as file:
        assert file.read() == TEXT
    assert checkpoints.verify(checkpoints=[installation.checkpoint]) == []
    assert result.notes == ()


def test_a_restored_installation_can_be_backed_up_and_restored_again(installation: Installation) -> None:
    before = hashes()
    for _ in range(2):
        report = backup.create(folder=installation.folder)
        installation.wipe()
        restore(report.backup)
    assert {name: value for name, value in hashes().items() if name in before} == before


def test_a_large_object_of_the_application_does_not_prevent_a_restore(installation: Installation) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT lo_from_bytea(0, 'planted')")
    before = hashes()
    report = backup.create(folder=installation.folder)
    backup.restore(backup=report.backup, force=connection.settings_dict["NAME"])
    assert before.keys() - hashes().keys() == set()


def test_the_audit_trail_is_verified_against_the_head_of_the_backup(installation: Installation) -> None:
    report = backup.create(folder=installation.folder)
    number, _, digest = report.backup.manifest.head.partition(":")
    assert int(number) >= 1
    installation.wipe()
    restore(report.backup)
    assert verification.verify(heads=[(int(number), digest)]).problems == []
    assert protection.gaps() == []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM fleet_audit.entry WHERE kind = 'backup.restore' AND subject = %s",
            [report.backup.name],
        )
        assert cursor.fetchone() == (1,)


def test_all_users_have_to_sign_in_again(installation: Installation) -> None:
    user = get_user_model()._default_manager.create_user("ann", password="long enough for ann")
    Session.objects.create(user=user, refresh="x", expires_at="2100-01-01T00:00Z")
    report = backup.create(folder=installation.folder)
    installation.wipe()
    restore(report.backup)
    assert Session.objects.filter(ended_at=None).count() == 0
    assert Session.objects.count() == 1


def test_changes_after_the_backup_are_gone(installation: Installation) -> None:
    report = backup.create(folder=installation.folder)
    fleet.launch({"later": {}})
    backup.restore(backup=report.backup, force=connection.settings_dict["NAME"])
    assert [mission.id for mission in Mission.objects.all()] == [installation.mission.id]


def test_files_that_were_removed_with_their_mission_are_listed_as_missing(installation: Installation) -> None:
    collection.delete(installation.artifact)
    report = backup.create(folder=installation.folder)
    path = f"artifacts/{installation.artifact[:2]}/{installation.artifact}"
    assert report.backup.manifest.missing == (path,)
    installation.wipe()
    assert restore(report.backup).notes == ("Missing already when the backup was made: 1 file.",)


def test_the_fleet_does_not_start_on_a_restore_that_was_interrupted(installation: Installation) -> None:
    restoring.require_finished()
    with roles.as_owner(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE public.fleet_unfinished_restore AS SELECT 'x'::text AS backup")
    with pytest.raises(errors.Conflict, match="was interrupted"):
        restoring.require_finished()
