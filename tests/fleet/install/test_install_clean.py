"""`make clean` removes build products, and data only with DATA=yes; tried on a clone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT

BUILT = ("build/bench.json", ".mypy_cache/x", ".ruff_cache/x", "fleet/__pycache__/x.pyc", ".coverage")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The Makefile in a folder with what a used checkout has; no .venv, so that nothing is asked to stop."""
    folder = tmp_path / "a clone"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{CHECKOUT}", str(folder)], check=True, timeout=60)
    (folder / "Makefile").write_text((CHECKOUT / "Makefile").read_text())
    for name in (*BUILT, ".fleet/private/credentials.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def make(clone: Path, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if name not in {"DATA", "MAKEFLAGS", "MAKELEVEL"}}
    result = subprocess.run(
        ["make", "clean", *arguments], cwd=clone, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("make_arguments", [(), ("DATA=",), ("DATA=no",), ("DATA=1",)])
def test_data_is_kept_without_data_yes(clone: Path, make_arguments: tuple[str, ...]) -> None:
    text = make(clone, *make_arguments)
    assert (clone / ".fleet" / "private" / "credentials.json").read_text() == "{}"
    assert "data is still in .fleet and .flightline; make clean DATA=yes removes it, too" in text
    assert not any((clone / name).exists() for name in BUILT)
    assert (clone / "fleet" / "settings.py").exists()


def test_data_is_removed_with_data_yes(clone: Path) -> None:
    make(clone, "DATA=yes")
    assert not (clone / ".fleet").exists()
    assert (clone / "manage.py").exists()


def test_clean_removes_nothing_if_the_fleet_does_not_stop(clone: Path) -> None:
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho it does not stop >&2\nexit 1\n")
    python.chmod(0o755)
    result = subprocess.run(
        ["make", "clean", "DATA=yes"], cwd=clone, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode != 0
    assert (clone / ".fleet" / "private" / "credentials.json").exists()
    assert python.exists()
