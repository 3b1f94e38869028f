"""The commits of an imported file are checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoints import operations
from missions.engine.process.runtime import Engine
from missions.workspaces import bundles
from tests.security.imports.imported_commits.hostile_commits import (
    EDIT,
    MB,
    assert_refused,
    blob_of,
    bundle_of,
    commit_of,
    tree_of,
    with_tip,
)
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import archives
from tests.support.work.archives import OpenedExport
from tests.support.work.restoring import launch

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda bundle: b"not a bundle",
        lambda bundle: bundle.replace(b"# v2 git bundle\n", b"# v3 git bundle\n@filter=blob:none\n"),
        lambda bundle: bundle.replace(b"\n\nPACK", b"\n" + b"0" * 40 + b" refs/heads/main\n\nPACK"),
        lambda bundle: bundle.replace(b"refs/fleet/commits/", b"refs/heads/../../"),
        lambda bundle: bundle.replace(b" base\n", b" base\n-" + b"1" * 40 + b" other\n"),
    ],
    ids=["bytes", "filter", "another ref", "path", "another base"],
)
def test_a_bundle_has_exactly_the_lines_that_a_fleet_writes(
    project: Repository, exported: bytes, change: Callable[[bytes], bytes]
) -> None:
    opened = OpenedExport.of(exported)
    changed = change(opened.commits)
    assert changed != opened.commits
    opened.commits = changed
    assert_refused(opened.reseal(), project, "does not have exactly the commits")


def test_the_commits_are_required_and_allowed_only_where_they_are_named(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)
    bundle, opened.commits = opened.commits, b""
    assert_refused(opened.reseal(), project, "missing or out of order|incomplete")
    opened = OpenedExport.of(archives.export(operations.capture(missions=[launch(project, EDIT).id])))
    opened.commits = bundle
    assert_refused(opened.reseal(), project, "unexpected member")


def test_a_damaged_bundle_is_refused(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)
    bundle = opened.commits
    opened.commits = bundle[:-30] + bytes(30)
    assert_refused(opened.reseal(), project, "git does not accept its bundle")
    opened.commits = bundle[: bundle.index(b"PACK")]
    assert_refused(opened.reseal(), project, "no pack")
    opened.commits = bundle + b"more"
    assert_refused(opened.reseal(), project, "git does not accept its bundle")
    place = exported.index(bundle) + len(bundle) - 25
    assert_refused(
        exported[:place] + bytes([exported[place] ^ 1]) + exported[place + 1 :], project, "SHA-256 of commits"
    )


def test_a_tip_that_is_not_in_the_bundle_is_refused(project: Repository, attacker: Repository, exported: bytes) -> None:
    tip = commit_of(attacker, "HEAD^{tree}")
    other = commit_of(attacker, tree_of(attacker, ("100644", b"x", blob_of(attacker, b"x"))))
    objects = bundle_of(attacker, other)
    bundle = bundles.header([tip], base=attacker.git("rev-parse", "HEAD")) + objects[objects.index(b"PACK") :]
    assert_refused(with_tip(exported, tip, bundle), project, "incomplete|neither in it")


def test_a_bundle_without_all_objects_is_refused(project: Repository, attacker: Repository, exported: bytes) -> None:
    tree = tree_of(attacker, ("100644", b"new.txt", blob_of(attacker, b"new")))
    tip = commit_of(attacker, tree)
    bundle = bundle_of(attacker, tip, objects=f"{tip}\n{tree}\n".encode())
    assert_refused(with_tip(exported, tip, bundle), project, "git does not accept its bundle|incomplete")


def test_objects_of_the_bases_history_need_not_be_in_the_file(
    project: Repository, attacker: Repository, engine: Engine
) -> None:
    old = project.git("rev-parse", "HEAD:old.txt")
    project.commit({"old.txt": "newer\n"})
    attacker.git("fetch", "--quiet")
    mission = launch(project, EDIT)
    fleet.run_to_end(engine, mission)
    data = archives.export(operations.capture(missions=[mission.id]))
    tree = tree_of(attacker, ("100644", b"restored.txt", old))
    tip = commit_of(attacker, tree)
    bundle = bundle_of(attacker, tip, objects=f"{tip}\n{tree}\n".encode())
    result = archives.import_bytes(with_tip(data, tip, bundle), repository=str(project.path), folder="/srv")
    assert repository.branch(result.mission).read("restored.txt") == "old\n"


@pytest.mark.parametrize(
    ("mode", "name"),
    [("40000", b".git"), ("100644", b".."), ("40000", b".GIT"), ("100644", b"a/b"), ("120000", b".gitmodules")],
)
def test_harmful_names_are_refused(
    project: Repository, attacker: Repository, exported: bytes, mode: str, name: bytes
) -> None:
    blob = blob_of(attacker, b"[core]\n\tsshCommand = id\n")
    inner = tree_of(attacker, ("100644", b"config", blob))
    tip = commit_of(attacker, tree_of(attacker, (mode, name, inner if mode == "40000" else blob)))
    bundle = bundle_of(attacker, tip)
    assert_refused(with_tip(exported, tip, bundle), project, "git does not accept its bundle")


def test_sizes_are_limited(project: Repository, attacker: Repository, exported: bytes, settings: Any) -> None:
    blobs = [blob_of(attacker, bytes([number]) * 3 * MB) for number in range(4)]
    entries = [("100644", b"file%d" % number, blob) for number, blob in enumerate(blobs)]
    tip = commit_of(attacker, tree_of(attacker, *entries))
    data = with_tip(exported, tip, bundle_of(attacker, tip))
    assert len(data) < MB
    settings.FLEET_COMMIT_BYTES = 2 * MB
    assert_refused(data, project, "an object of 3,000,000 bytes; at most 2,000,000 are allowed")
    settings.FLEET_COMMIT_BYTES, settings.FLEET_IMPORT_FILE_BYTES = 4 * MB, 10 * MB
    assert_refused(data, project, "more than 10,000,000 bytes")


def test_a_few_objects_cannot_stand_for_countless_files(
    project: Repository, attacker: Repository, exported: bytes
) -> None:
    mode, object = "100644", blob_of(attacker, b"x")
    for _ in range(8):
        entries = [(mode, b"%02d" % number, object) for number in range(20)]
        mode, object = "40000", tree_of(attacker, *entries)
    tip = commit_of(attacker, object)
    assert_refused(with_tip(exported, tip, bundle_of(attacker, tip)), project, "too many files")


def test_a_path_cannot_be_arbitrarily_deep(project: Repository, attacker: Repository, exported: bytes) -> None:
    mode, object = "100644", blob_of(attacker, b"x")
    for _ in range(30):
        mode, object = "40000", tree_of(attacker, (mode, b"n" * 200, object))
    tip = commit_of(attacker, object)
    assert_refused(with_tip(exported, tip, bundle_of(attacker, tip)), project, "path")


def test_an_object_that_expands_is_refused(
    project: Repository, attacker: Repository, exported: bytes, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    with open(big, "wb") as file:
        file.truncate(60 * MB)
    tip = commit_of(attacker, tree_of(attacker, ("100644", b"big", attacker.git("hash-object", "-w", str(big)))))
    bundle = bundle_of(attacker, tip)
    assert len(bundle) < MB
    assert_refused(with_tip(exported, tip, bundle), project, "an object of 60,000,000 bytes")


def test_the_number_of_objects_is_limited(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)
    start = opened.commits.index(b"PACK")
    opened.commits = opened.commits[: start + 8] + b"\xff\xff\xff\xff" + opened.commits[start + 12 :]
    assert_refused(opened.reseal(), project, "4,294,967,295 objects; at most 2,000,000 are allowed")
