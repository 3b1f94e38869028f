"""`.worktreeinclude` copies ignored files of the user's checkout, which other work may be changing at that moment."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from fleet import errors
from fleet.config.home import Home
from missions.workspaces import copies
from tests.support import repository
from tests.support.repository import Repository


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    new_project = repository.create(
        tmp_path / "project", {".gitignore": "conf\n", ".worktreeinclude": "conf/\n", "a.txt": "a\n"}
    )
    (new_project.path / "conf").mkdir()
    (new_project.path / "conf" / "key").write_text("mine")
    return new_project


@pytest.mark.parametrize("secret_of", ["the user", "the fleet"])
def test_a_folder_replaced_by_a_link_during_the_copy_discloses_nothing(
    project: Repository, tmp_path: Path, secret_of: str
) -> None:
    home = settings.FLEET_HOME.root if secret_of == "the fleet" else tmp_path / "home"
    outside = home / "outside"
    outside.mkdir(parents=True)
    (outside / "key").write_text("secret")
    conf, hidden_folder = project.path / "conf", project.path / ".git" / "aside"
    ending = threading.Event()

    def swap() -> None:
        while not ending.is_set():
            os.rename(conf, hidden_folder)
            os.symlink(outside, conf)
            os.unlink(conf)
            os.rename(hidden_folder, conf)
            time.sleep(random.uniform(0, 0.02))  # so that git often finds the folder, but the copy then finds the link

    sortie = repository.sortie_copy(project)
    base = project.git("rev-parse", "HEAD")
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(150):
            copies.include_ignored(sortie.copy, repository=project.path, base=base)
            if (sortie.path / "conf" / "key").exists():
                assert (sortie.path / "conf" / "key").read_text() == "mine"
                (sortie.path / "conf" / "key").unlink()
    finally:
        ending.set()
        swapper.join()
    assert copies.include_ignored(sortie.copy, repository=project.path, base=base) == 1


def test_a_file_gets_no_setuid_bit(project: Repository) -> None:
    (project.path / "conf" / "key").chmod(0o6755)
    sortie = repository.sortie_copy(project)
    assert copies.include_ignored(sortie.copy, repository=project.path, base=project.git("rev-parse", "HEAD")) == 1
    assert (sortie.path / "conf" / "key").stat().st_mode & 0o7777 == 0o755


def test_files_of_the_fleet_stay_hidden_in_a_checkout(project: Repository) -> None:
    sortie = repository.sortie_copy(project)
    with override_settings(FLEET_HOME=Home(project.path / "conf")):
        base = project.git("rev-parse", "HEAD")
        assert copies.include_ignored(sortie.copy, repository=project.path, base=base) == 0


def test_a_checkout_behind_a_link_is_refused(project: Repository, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project.path)
    sortie = repository.sortie_copy(project)
    with pytest.raises(errors.Invalid, match="is a symbolic link") as excinfo:
        copies.include_ignored(sortie.copy, repository=tmp_path / "link", base=project.git("rev-parse", "HEAD"))
    assert str(project.path) in excinfo.value.hint
