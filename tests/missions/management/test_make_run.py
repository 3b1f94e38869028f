"""`make run REPO=…` accepts any path, and refuses what cannot be audited before it starts anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples import audit_runs
from tests.support.paths import CHECKOUT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the Makefile, where the real check runs, and `manage.py` only records its arguments."""
    folder = tmp_path / "clone"
    (folder / "scripts").mkdir(parents=True)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / "Makefile").write_text((CHECKOUT / "Makefile").read_text())
    for place, script in {
        "scripts/install.sh": "exit 0",
        ".venv/bin/python": f'[ "$1" = -m ] && PYTHONPATH={CHECKOUT} exec {sys.executable} "$@"\nprintf "%s\\0" "$@" > started',
    }.items():
        (folder / place).write_text(f"#!/bin/sh\n{script}\n")
        (folder / place).chmod(0o755)
    return folder


def run(clone: Path, *arguments: str | bytes, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "run", *arguments], cwd=clone, env={**os.environ, **(env or {})}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def arguments_of_manage(clone: Path) -> list[str]:
    return (clone / "started").read_text().split("\0")[:-1]


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "-",
        "with a space",
        'a"b',
        "it's",
        "$(touch stolen)",
        "`touch stolen`",
        "$HOME",
        "a;b&c",
        "$(shell exit)",
    ],
)
def test_a_path_with_any_characters_reaches_the_mission_unchanged(clone: Path, name: str) -> None:
    audit_runs.repository(clone / name, {"a.py": "x = 1\n"})
    for arguments, env in (([f"REPO={name}"], {}), ([], {"REPO": name})):
        result = run(clone, *arguments, env=env)
        assert (result.returncode, result.stderr) == (0, "")
        assert arguments_of_manage(clone)[-2:] == ["--param", f"repository={name}"]
        (clone / "started").unlink()
    assert not (clone / "stolen").exists()


def test_without_repo_it_audits_its_own_checkout(clone: Path) -> None:
    audit_runs.git(clone, "init", "-q")
    assert run(clone).returncode == 0
    assert arguments_of_manage(clone)[-1] == "repository=."


@pytest.mark.parametrize(
    "variable, words",
    [
        ("/nonexistent", "There is no folder '/nonexistent'"),
        ("/etc/passwd", "There is no folder '/etc/passwd'"),
        ("checkout/a.py", "There is no folder 'checkout/a.py'"),
        ("-", "There is no folder '-'"),
        ("/", "'/' is not a git repository"),
        ("", "REPO is empty"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_a_path_that_cannot_be_audited_is_refused_before_anything_starts(
    clone: Path, variable: str | bytes, words: str
) -> None:
    audit_runs.repository(clone / "checkout", {"a.py": "x = 1\n"})
    result = run(clone, b"REPO=" + os.fsencode(variable))
    assert result.returncode == 2
    assert words in result.stderr
    assert variable == b"\xff" or "make run REPO=/path/to/it" in result.stderr
    assert not (clone / "started").exists()
