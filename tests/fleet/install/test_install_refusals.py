"""`scripts/install.sh` reports what is missing and what to do. These tests download nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT

TOOLS = ("sh", "dirname", "cat", "cksum", "rm", "mkdir", "env", "sleep", "grep", "ln")


class Machine:
    """A copy of what the script needs, in a path with a space, and a PATH with selected programs only."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "a clone"
        (self.checkout / "scripts").mkdir(parents=True)
        shutil.copy(CHECKOUT / "scripts" / "install.sh", self.checkout / "scripts")
        (self.checkout / "examples" / "repo_audit").mkdir(parents=True)
        for name in ("requirements.txt", "requirements-dev.txt", "examples/repo_audit/requirements.txt"):
            shutil.copy(CHECKOUT / name, self.checkout / name)
        self.programs = folder / "bin"
        self.programs.mkdir()
        for tool in TOOLS:
            self.has(tool, f'exec {shutil.which(tool)} "$@"')
        self.has("git", "exit 0")
        self.has_python("3.11.4")

    def has(self, name: str, script: str) -> None:
        program = self.programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def has_python(self, version: str, *, without: Sequence[str] = ()) -> None:
        """A wrapper of this Python that reports another version and lacks modules."""
        numbers = tuple(int(part) for part in version.split("."))
        start = (
            f"import sys; sys.version_info = {numbers!r}; [sys.modules.__setitem__(m, None) for m in {list(without)!r}]"
        )
        self.has(
            "python3",
            f'[ "$1" = --version ] && echo "Python {version}" && exit\n'
            f'[ "$1" = -c ] && exec {sys.executable} -c "{start}\n$2"\n'
            'echo "python3 $*" >&2; exit 9',
        )

    def install(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "scripts/install.sh", *arguments],
            cwd=self.checkout, env={"PATH": str(self.programs), **env}, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip

    def refusal(self, **env: str) -> str:
        """Its message when it refuses. Checks that it has created nothing."""
        result = self.install(**env)
        assert result.returncode == 1, result.stderr
        assert result.stderr.startswith("fleet: ")
        assert result.stderr.count("\n") == 1
        assert not (self.checkout / ".venv").exists()
        return result.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_git_it_says_how_to_install_git(machine: Machine) -> None:
    (machine.programs / "git").unlink()
    assert "git was not found" in (text := machine.refusal())
    assert "apt-get install git" in text


def test_without_python_it_names_the_required_version(machine: Machine) -> None:
    (machine.programs / "python3").unlink()
    assert (
        "python3 was not found. Install Python 3.11 or newer, or select another one: make PYTHON=" in machine.refusal()
    )


@pytest.mark.parametrize("version", ["3.10.13", "3.9.2", "2.7.18"])
def test_a_python_that_is_too_old_is_reported_with_a_hint(machine: Machine, version: str) -> None:
    machine.has_python(version)
    text = machine.refusal()
    assert f"Python {version} is too old: Python 3.11 or newer is required" in text
    assert "make PYTHON=" in text


def test_another_python_can_be_chosen(machine: Machine) -> None:
    machine.has_python("3.10.13")
    assert "python3.99 was not found" in machine.refusal(PYTHON="python3.99")


@pytest.mark.parametrize("missing", ["ensurepip", "venv"])
def test_without_ensurepip_or_venv_it_names_both_remedies(machine: Machine, missing: str) -> None:
    machine.has_python("3.11.2", without=[missing])
    text = machine.refusal()
    assert "cannot create a virtual environment" in text
    assert "apt-get install python3-venv) or uv." in text


def test_with_uv_neither_of_them_is_required(machine: Machine) -> None:
    machine.has_python("3.11.2", without=["ensurepip", "venv"])
    machine.has("uv", 'echo "uv $*" >&2; [ "$1" = venv ]')
    result = machine.install()
    assert "uv venv" in result.stderr
    assert "--require-hashes -r requirements.txt" in result.stderr
    assert result.returncode == 1  # uv would install nothing
    assert result.stderr.splitlines()[-1].startswith("fleet: the requirements could not be installed")
    assert not (machine.checkout / ".venv" / ".fleet-run").exists()


def test_an_incomplete_environment_is_created_again(machine: Machine) -> None:
    """The state after a `venv` that was interrupted before it installed pip."""
    python = machine.checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "import sys; sys.modules[\'pip\'] = None; $2"\n'
    )
    python.chmod(0o755)
    result = machine.install()
    assert "creating .venv" in result.stderr
    assert "python3 -m venv .venv" in result.stderr
    assert not python.exists()
    assert result.stderr.splitlines()[-1].startswith("fleet: the virtual environment could not be created")


def test_a_second_install_does_nothing_until_the_requirements_change(machine: Machine) -> None:
    machine.has("uv", 'echo "uv $*" >&2; mkdir -p .venv')
    assert "uv pip install" in machine.install().stderr
    assert machine.install().stderr == ""
    with (machine.checkout / "requirements.txt").open("a") as file:
        file.write("# another one\n")
    assert "uv pip install" in machine.install().stderr


def test_a_long_install_reports_its_progress(machine: Machine) -> None:
    site = ".venv/lib/python3/site-packages"
    machine.has(
        "uv",
        f'[ "$1" = venv ] || {{ mkdir -p {site}/a.dist-info {site}/b.dist-info; {shutil.which("sleep")} 7; }}',
    )
    assert "fleet: packages: 2 installed, 5 s\n" in machine.install().stderr


def test_it_runs_from_any_folder_and_as_an_ordinary_user(machine: Machine, tmp_path: Path) -> None:
    machine.has("uv", 'echo "uv $*" >&2; mkdir -p .venv')
    result = subprocess.run(
        ["/bin/sh", str(machine.checkout / "scripts" / "install.sh")],
        cwd=tmp_path, env={"PATH": str(machine.programs)}, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (machine.checkout / ".venv" / ".fleet-run").exists()
    assert (machine.checkout / ".venv" / "bin" / "fleet").resolve() == machine.checkout / "manage.py"
    assert os.access(CHECKOUT / "scripts" / "install.sh", os.X_OK)
