"""The folder of backups: what a second backup shares with the first, what is kept, and what is refused."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from fleet import backup, errors
from fleet.backup import Backup, folder, manifest, postgres_clients
from fleet.config import programs
from missions import folders
from tests.support.processes.installation import Installation


def files(copy: Backup) -> dict[str, int]:
    return {
        path.relative_to(copy.path).as_posix(): path.stat().st_ino for path in copy.path.rglob("*") if path.is_file()
    }


def test_a_second_backup_shares_the_files_that_never_change(installation: Installation) -> None:
    first = backup.create(folder=installation.folder)
    second = backup.create(folder=installation.folder)
    full = backup.create(folder=installation.folder, full=True)
    shared = {path for path, inode in files(second.backup).items() if files(first.backup).get(path) == inode}
    assert {path.split("/")[0] for path in shared} == {"artifacts", "checkpoints", "repositories"}
    assert second.new_bytes < first.new_bytes <= full.new_bytes
    assert set(files(full.backup).values()).isdisjoint(files(second.backup).values())
    for report in (first, second, full):
        assert backup.verify(backup=report.backup).problems == []


def test_removing_an_older_backup_does_not_damage_a_newer_one(installation: Installation) -> None:
    names = [backup.create(folder=installation.folder).backup.name for _ in range(3)]
    report = backup.create(folder=installation.folder, keep=2)
    assert report.removed == tuple(reversed(names[:2]))
    assert [copy.name for copy in folder.backups(installation.folder)] == [report.backup.name, names[2]]
    assert backup.verify(backup=report.backup).problems == []


def test_only_one_backup_is_written_to_a_folder_at_a_time(installation: Installation) -> None:
    backup.create(folder=installation.folder)
    with open(installation.folder / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(errors.Conflict, match="Another backup is being written"):
            backup.create(folder=installation.folder)


def test_a_database_that_is_not_empty_is_replaced_only_by_its_name(installation: Installation) -> None:
    snapshot = backup.create(folder=installation.folder).backup
    for force in ("", "yes", "postgres"):
        with pytest.raises(errors.Conflict, match=f"--force {connection.settings_dict['NAME']}"):
            backup.restore(backup=snapshot, force=force)
    backup.restore(backup=snapshot, force=connection.settings_dict["NAME"])


def test_a_backup_of_a_newer_version_is_refused(installation: Installation) -> None:
    snapshot = backup.create(folder=installation.folder).backup
    path = snapshot.path / manifest.NAME
    original = snapshot.manifest
    newer = manifest.BackupManifest(
        **{**_fields(original), "migrations": (*original.migrations, "missions.9999_new"), "version": "9.0"}
    )
    path.write_bytes(newer.serialize())
    with pytest.raises(
        errors.Conflict, match=r"newer version of the fleet \(9\.0\), with the migration missions\.9999_new"
    ):
        backup.restore(backup=Backup(snapshot.path), force=connection.settings_dict["NAME"])


def test_a_backup_from_a_newer_postgres_is_refused(installation: Installation) -> None:
    snapshot = backup.create(folder=installation.folder).backup
    newer = manifest.BackupManifest(**{**_fields(snapshot.manifest), "server": 990001})
    (snapshot.path / manifest.NAME).write_bytes(newer.serialize())
    with pytest.raises(errors.Conflict, match="comes from Postgres 99"):
        backup.restore(backup=Backup(snapshot.path), force=connection.settings_dict["NAME"])


def test_without_new_enough_programs_it_says_what_to_install() -> None:
    with pytest.raises(errors.Unavailable, match="postgresql-client-99"):
        postgres_clients.find(server=99)
    assert postgres_clients.find(server=1).major == min(
        postgres_clients._major(folder) for folder in programs.postgres_clients()
    )


def test_a_name_that_does_not_exist_lists_what_to_do(installation: Installation) -> None:
    with pytest.raises(errors.NotFound, match="There is no backup in"):
        folder.find(installation.folder, "latest")
    snapshot = backup.create(folder=installation.folder).backup
    assert folder.find(installation.folder, "latest").name == snapshot.name
    assert folder.find(Path("/nowhere"), str(snapshot.path)).name == snapshot.name
    with pytest.raises(errors.NotFound, match="List them"):
        folder.find(installation.folder, "20200101T000000Z")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)], check=False).returncode
    ):
        pytest.skip("no disk can be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_named_and_nothing_is_left(installation: Installation, small_disk: Path) -> None:
    with pytest.raises(errors.Unavailable, match=f"The disk of {small_disk} is full"):
        backup.create(folder=small_disk)
    assert [path.name for path in small_disk.iterdir()] == [".lock"]


def test_a_full_disk_is_noticed_before_files_are_copied(installation: Installation, small_disk: Path) -> None:
    large = installation.home.artifacts / "00" / ("0" * 64)
    large.parent.mkdir(exist_ok=True)
    with open(large, "wb") as file:
        file.truncate(shutil.disk_usage(large.parent).free + (1 << 30))  # a file with holes
    messages: list[str] = []
    with pytest.raises(errors.Unavailable, match="is full"):
        backup.create(folder=installation.folder, say=messages.append)
    assert not any("Copying artifacts" in line for line in messages)


def test_a_fleet_that_uses_the_database_must_be_stopped_first(installation: Installation) -> None:
    snapshot = backup.create(folder=installation.folder).backup
    connection.close()
    with psycopg.connect(
        **{**postgres_clients.libpq(postgres_clients.reader()), "application_name": "fleet committer"}
    ):
        with pytest.raises(errors.Conflict, match="The database is used by 1 session of a fleet"):
            backup.restore(backup=snapshot, force=connection.settings_dict["NAME"])


def test_missions_may_not_work_in_the_folder_of_backups(installation: Installation) -> None:
    snapshot = backup.create(folder=settings.FLEET_BACKUPS).backup
    with pytest.raises(errors.Invalid):
        folders.check_folder(str(snapshot.path))


def test_the_manifest_is_canonical_json(installation: Installation) -> None:
    snapshot = backup.create(folder=installation.folder).backup
    document = json.loads((snapshot.path / manifest.NAME).read_bytes())
    assert document["format"] == manifest.FORMAT
    assert document["rows"]["public.missions_mission"] == 1
    (snapshot.path / manifest.NAME).write_bytes(json.dumps(document).encode())  # the same content, other bytes
    assert [problem.path for problem in backup.verify(backup=Backup(snapshot.path)).problems] == [manifest.NAME]


def _fields(contents: manifest.BackupManifest) -> dict[str, Any]:
    return {name: getattr(contents, name) for name in contents.__dataclass_fields__}
