"""A copy gets those ignored files of the user's checkout that the user's `.worktreeinclude` names, and no others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from fleet.config.home import Home
from missions.workspaces import copies
from missions.workspaces.repositories import sources
from tests.support import repository
from tests.support.repository import Repository, SortieCopy


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    new_project = repository.create(
        tmp_path / "project",
        {".gitignore": ".env*\nsecret\n.fleet\n", ".worktreeinclude": ".env\nconf/\n", "a.txt": "a\n"},
    )
    (new_project.path / ".env").write_text("KEY=1\n")
    (new_project.path / ".env.production").write_text("KEY=2\n")
    (new_project.path / "secret").write_text("secret\n")
    return new_project


def include(project: Repository, sortie: SortieCopy, *, base: str = "") -> int:
    return copies.include_ignored(sortie.copy, repository=project.path, base=base or project.git("rev-parse", "HEAD"))


def test_the_named_files_are_copied_with_their_mode(project: Repository) -> None:
    (project.path / ".env").chmod(0o640)
    sortie = repository.sortie_copy(project)
    assert include(project, sortie) == 1
    assert (sortie.path / ".env").read_text() == "KEY=1\n"
    assert (sortie.path / ".env").stat().st_mode & 0o777 == 0o640
    assert not (sortie.path / ".env.production").exists()
    assert sortie.commit().files == ()


def test_a_change_that_lands_cannot_name_more_files(project: Repository) -> None:
    base = project.git("rev-parse", "HEAD")
    first = repository.sortie_copy(project)
    (first.path / ".worktreeinclude").write_text("*\n")
    commit = first.commit().commit
    sortie = repository.sortie_copy(project, tip=commit)
    assert include(project, sortie, base=base) == 1
    assert not (sortie.path / "secret").exists()


def test_a_link_that_has_landed_does_not_lead_copied_files_out_of_the_copy(project: Repository, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (project.path / "conf").mkdir()
    (project.path / ".gitignore").write_text(".env*\nsecret\nconf\n")
    base = project.commit({".worktreeinclude": "conf/\n.env\n"})
    (project.path / "conf" / "local.ini").write_text("x\n")
    first = repository.sortie_copy(project)
    first.sh(f"ln -s {outside} conf; echo > .gitignore; ln -s {outside}/env .env")
    sortie = repository.sortie_copy(project, tip=first.commit().commit)
    assert (sortie.path / "conf").is_symlink()
    assert include(project, sortie, base=base) == 0
    assert list(outside.iterdir()) == []


def test_the_fleets_own_files_are_never_copied(project: Repository) -> None:
    """The fleet's folder is in the user's checkout, where git ignores it."""
    home = project.path / ".fleet"
    (home / "private").mkdir(parents=True)
    (home / "private" / "credentials.json").write_text("{}")
    base = project.commit({".worktreeinclude": "*\n"})
    sortie = repository.sortie_copy(project)
    with override_settings(FLEET_HOME=Home(home)):
        include(project, sortie, base=base)
    assert (sortie.path / "secret").exists()
    assert not (sortie.path / ".fleet").exists()
    assert settings.FLEET_HOME.root != home


def test_links_and_pipes_are_left_out(project: Repository) -> None:
    (project.path / ".env").unlink()
    (project.path / ".env").symlink_to("/etc/passwd")
    (project.path / "conf").mkdir()
    os.mkfifo(project.path / "conf" / "pipe")
    assert include(project, repository.sortie_copy(project)) == 0


def test_a_bare_repository_has_no_ignored_files(project: Repository, tmp_path: Path) -> None:
    project.git("clone", "--quiet", "--bare", str(project.path), str(tmp_path / "bare.git"))
    sortie = repository.sortie_copy(project)
    base = project.git("rev-parse", "HEAD")
    assert copies.include_ignored(sortie.copy, repository=tmp_path / "bare.git", base=base) == 0
    assert sources.resolve_base(str(tmp_path / "bare.git"), "")[1] == base
