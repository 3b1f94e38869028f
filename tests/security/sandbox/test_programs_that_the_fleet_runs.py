"""The fleet runs no program from a folder that workloads can write to, wherever PATH looks first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.confinement import host_paths
from fleet.host import trusted_programs
from missions import folders
from missions.management.commands import fleet_doctor
from missions.workspaces.repositories import git
from tests.support import fleet


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of PATH, in a mission's folder, with programs that a workload put there."""
    programs = tmp_path / "mission" / "bin"
    programs.mkdir(parents=True)
    for name in ("git", "ssh"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/planted; echo git version 9.99\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return programs


def test_git_comes_from_a_folder_of_the_system(planted: Path, tmp_path: Path) -> None:
    git.version.cache_clear()
    try:
        assert (2, 0) < git.version() < (9, 0)
        assert git.line("rev-parse", "--is-bare-repository", at=_repository(tmp_path)) == "false"
    finally:
        git.version.cache_clear()
    assert not (tmp_path / "planted").exists()


def test_git_finds_ssh_in_a_folder_of_the_system(planted: Path, tmp_path: Path) -> None:
    git.execute("ls-remote", "ssh://git@host.invalid/app.git", at=_repository(tmp_path), timeout_s=30)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("path", ["", ".", ":", "bin", "relative:also/relative"])
def test_without_a_folder_of_the_system_in_path_the_standard_folders_are_used(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path)
    assert trusted_programs.folders() == tuple(
        dict.fromkeys(Path(name).resolve() for name in trusted_programs.STANDARD)
    )


def test_a_link_to_a_folder_of_work_is_not_a_folder_of_the_system(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(planted)
    monkeypatch.setenv("PATH", f"{tmp_path / 'link'}:/usr/bin")
    assert trusted_programs.folders() == (Path("/usr/bin").resolve(),)


def test_the_programs_of_the_environment_count_because_the_sandbox_keeps_them_read_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = Path(sys.prefix, "bin").resolve()
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    assert trusted_programs.folders()[0] == programs
    assert any(programs.is_relative_to(folder) for folder in host_paths.code_folders())


def test_no_mission_may_use_a_folder_with_programs_of_the_fleet(tmp_path: Path, settings: Any) -> None:
    programs = tmp_path / "tools" / "bin"
    programs.mkdir(parents=True)
    folders.check_folder(str(tmp_path / "tools"))
    settings.FLEET_PROGRAM_FOLDERS = [str(programs)]
    assert trusted_programs.folders()[0] == programs
    for folder in (tmp_path, tmp_path / "tools", programs):
        with pytest.raises(Exception, match=f"contains {programs}, whose programs the fleet runs"):
            folders.check_folder(str(folder))
    with pytest.raises(Exception, match="whose programs the fleet runs"):
        folders.check_folder("/usr/local")


@pytest.mark.django_db
def test_the_doctor_warns_about_folders_of_path_that_work_can_write_to(planted: Path) -> None:
    assert not list(fleet_doctor._path())
    fleet.launch({"one": {}}, folder=str(planted.parent))
    (finding,) = fleet_doctor._path()
    assert f"workloads can write to {planted}, which is in PATH" in finding.message


def _repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    subprocess.run(
        ["/usr/bin/env", f"PATH={trusted_programs.path_variable()}", "git", "init", "-q", str(path)], check=True
    )
    return path
