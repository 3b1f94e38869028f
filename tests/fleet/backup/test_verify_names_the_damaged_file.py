"""A flipped byte in any file of a backup is found, and the file is named. A restore then changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from fleet import backup, errors
from fleet.backup import Backup
from missions.models import Mission
from tests.support import fleet
from tests.support.processes.installation import Installation

KINDS = {
    "the dump": "database.dump",
    "an artifact": "artifacts/??/*",
    "a checkpoint's manifest": "checkpoints/chk_*/manifest.json.zst",
    "a checkpoint's blob": "checkpoints/blobs/*.zst",
    "an object of a repository": "repositories/*.git/objects/??/*",
    "the refs of a repository": "repositories/*.git/packed-refs",
    "the configuration of a repository": "repositories/*.git/config",
    "the manifest": "manifest.json",
}


@pytest.fixture
def snapshot(installation: Installation) -> Backup:
    copy = backup.create(folder=installation.folder).backup
    assert backup.verify(backup=copy).problems == []
    return Backup(copy.path)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def test_a_flipped_byte_is_found_in_each_kind_of_file(snapshot: Backup) -> None:
    for kind, pattern in KINDS.items():
        paths = sorted(snapshot.path.glob(pattern))[:2]
        assert paths, kind
        for path in paths:
            for at in (0, path.stat().st_size // 2, path.stat().st_size - 1):
                flip(path, at)
                (problem,) = backup.verify(backup=Backup(snapshot.path)).problems
                assert (problem.path, problem.problem) == (path.relative_to(snapshot.path).as_posix(), "changed"), (
                    kind,
                    at,
                )
                flip(path, at)
    assert backup.verify(backup=Backup(snapshot.path)).problems == []


def test_missing_and_shortened_files_are_named(snapshot: Backup) -> None:
    (artifact,) = snapshot.path.glob("artifacts/??/*")
    (snapshot.path / "database.dump").write_bytes((snapshot.path / "database.dump").read_bytes()[:-1])
    artifact.unlink()
    found = {problem.path: problem.problem for problem in backup.verify(backup=snapshot).problems}
    assert found == {"database.dump": "changed", artifact.relative_to(snapshot.path).as_posix(): "missing"}


def test_the_bytes_of_a_report_are_those_that_were_read(snapshot: Backup) -> None:
    listing = snapshot.manifest
    actual = sum((snapshot.path / file.path).stat().st_size for file in listing.files)
    files = tuple(file._replace(size=10**18) for file in listing.files)
    (snapshot.path / "manifest.json").write_bytes(replace(listing, files=files).serialize())
    report = backup.verify(backup=Backup(snapshot.path))
    assert len(report.problems) == len(files)
    assert report.bytes == actual


def test_every_file_has_mode_0600(snapshot: Backup) -> None:
    files = [path for path in snapshot.path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert snapshot.path.stat().st_mode & 0o777 == 0o700


def test_a_damaged_backup_is_refused_before_anything_changes(snapshot: Backup) -> None:
    fleet.launch({"later": {}})
    flip(snapshot.path / "database.dump", 5_000)
    with pytest.raises(errors.Conflict, match=r"database\.dump was changed.*Nothing was changed"):
        backup.restore(backup=snapshot, force=connection.settings_dict["NAME"])
    assert Mission.objects.count() == 2


def test_a_repository_without_an_object_that_was_lost_before_the_backup_is_named(
    installation: Installation, snapshot: Backup
) -> None:
    mirror = installation.branch().mirror
    tip = installation.branch().tip
    (mirror / "objects" / tip[:2] / tip[2:]).unlink()
    broken = backup.create(folder=installation.folder, full=True).backup
    (problem,) = backup.verify(backup=broken).problems
    assert (problem.path, problem.problem) == (f"repositories/{mirror.name}", "unreadable")


def test_only_the_refs_and_objects_of_a_repository_are_read(installation: Installation, snapshot: Backup) -> None:
    """The rest could lead git to another repository, or make it run a program that someone else has chosen."""
    mirror = snapshot.path / "repositories" / installation.branch().mirror.name
    (mirror / "commondir").write_text("/nonexistent\n")
    assert backup.verify(backup=snapshot).problems == []


@pytest.mark.parametrize("path", ["artifacts/../../../planted", "/tmp/planted"])
def test_a_manifest_that_names_a_file_outside_the_backup_is_refused(snapshot: Backup, path: str) -> None:
    (artifact,) = (file for file in snapshot.manifest.files if file.path.startswith("artifacts/"))
    files = tuple(artifact._replace(path=path) if file == artifact else file for file in snapshot.manifest.files)
    (snapshot.path / "manifest.json").write_bytes(replace(snapshot.manifest, files=files).serialize())
    changed = Backup(snapshot.path)
    (problem,) = backup.verify(backup=changed).problems
    assert "names a file outside the backup" in problem.message
    with pytest.raises(errors.Conflict, match="names a file outside the backup"):
        backup.restore(backup=changed, force=connection.settings_dict["NAME"])


@pytest.mark.parametrize(
    "change",
    [
        {"migrations": 5},
        {"migrations": [5]},
        {"files": [[1, 2, 3]]},
        {"files": [["database.dump", "many", "x"]]},
        {"files": [["a\0b", 1, "x"]]},
        {"rows": {"public.auth_user": "many"}},
        {"client": "18"},
        {"server": None},
        {"head": None, "more": 1},
    ],
)
def test_a_manifest_of_another_shape_is_damaged(snapshot: Backup, change: dict[str, Any]) -> None:
    document = json.loads((snapshot.path / "manifest.json").read_bytes()) | change
    del document["digest"]
    digest = hashlib.sha256(canonical(document)).hexdigest()
    (snapshot.path / "manifest.json").write_bytes(canonical({**document, "digest": digest}))
    (problem,) = backup.verify(backup=Backup(snapshot.path)).problems
    assert (problem.path, problem.problem) == ("manifest.json", "changed")


def canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def test_a_named_pipe_in_place_of_a_file_is_not_read(snapshot: Backup) -> None:
    (artifact,) = (file for file in snapshot.manifest.files if file.path.startswith("artifacts/"))
    (snapshot.path / artifact.path).unlink()
    os.mkfifo(snapshot.path / artifact.path)
    (problem,) = backup.verify(backup=snapshot).problems
    assert (problem.path, problem.problem) == (artifact.path, "unreadable")
    assert "not a regular file" in problem.message
