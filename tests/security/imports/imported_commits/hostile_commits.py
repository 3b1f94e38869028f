"""Commits that an attacker could put into an exported file, and a check that an import of them changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings

from fleet import errors
from missions.workspaces import bundles, copies
from missions.workspaces.repositories import git, mirrors
from tests.security.imports.tampered_exports import stored_state
from tests.support.repository import Repository
from tests.support.work import archives
from tests.support.work.archives import OpenedExport

MB = 1_000_000
EDIT = {"edit": {"run": "echo 1 > one.txt"}}


def with_tip(data: bytes, tip: str, bundle: bytes) -> bytes:
    """The file with another tip of the branch, and other commits."""
    opened = OpenedExport.of(data)
    opened.change_mission(lambda state: state["workspace"].update(tip=tip))
    opened.commits = bundle
    return opened.reseal()


def bundle_of(attacker: Repository, *commits: str, objects: bytes | None = None) -> bytes:
    """A bundle of these commits of the attacker, or one with these objects only."""
    base = attacker.git("rev-parse", "origin/main")
    folder = attacker.path / ".git"
    if objects is not None:
        return bundles.header(commits, base=base) + git.run("pack-objects", "--stdout", "-q", at=folder, stdin=objects)
    written: list[bytes] = []
    bundles.write(folder, commits=commits, base=base, out=type("Out", (), {"write": staticmethod(written.append)})())
    return b"".join(written)


def commit_of(attacker: Repository, tree: str, *parents: str) -> str:
    options = [option for parent in parents or ("origin/main",) for option in ("-p", parent)]
    return attacker.git("commit-tree", tree, *options, "-m", "hostile")


def tree_of(attacker: Repository, *entries: tuple[str, bytes, str]) -> str:
    """A tree with these entries (mode, name, object), however harmful."""
    data = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(object) for mode, name, object in entries)
    words = ("hash-object", "-w", "--stdin", "--literally", "-t", "tree")
    return git.line(*words, at=attacker.path, stdin=data)


def blob_of(attacker: Repository, data: bytes) -> str:
    return git.line("hash-object", "-w", "--stdin", at=attacker.path, stdin=data)


def mirror_state(project: Repository) -> tuple[object, ...]:
    """The refs and the objects of the mirror, and the folders of incoming commits."""
    mirror = mirrors.of(str(project.path))
    refs = git.run("for-each-ref", at=mirror)
    objects = git.run("cat-file", "--batch-all-objects", "--batch-check", at=mirror)
    return refs, objects, sorted(settings.FLEET_HOME.commits.glob(f"{copies.READER}*"))


def assert_refused(data: bytes, project: Repository, reason: str, **options: Any) -> None:
    before = stored_state(), mirror_state(project)
    with pytest.raises(errors.FleetError, match=reason):
        archives.import_bytes(data, repository=str(project.path), **{"folder": str(project.path), **options})
    assert (stored_state(), mirror_state(project)) == before
