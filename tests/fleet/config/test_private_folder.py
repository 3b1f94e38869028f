"""FLEET_PRIVATE moves the private folder out of a home that several hosts share, and no work sees it there either."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.confinement.view import View
from fleet.config import credentials, home
from fleet.config.home import Home


def test_credentials_logs_and_locks_move_and_the_data_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "shared"))
    monkeypatch.setenv("FLEET_PRIVATE", str(tmp_path / "own" / "private"))
    found = home.locate(tmp_path)
    known = credentials.ensure(found)
    file = tmp_path / "own" / "private" / "credentials.json"
    assert json.loads(file.read_text())["secret_key"] == known.secret_key
    assert (file.parent.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert found.logs.is_relative_to(file.parent)
    assert found.run.is_relative_to(file.parent)
    assert found.artifacts.is_relative_to(tmp_path / "shared")
    assert not (tmp_path / "shared" / "private").exists()


def test_by_default_the_private_folder_is_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    monkeypatch.delenv("FLEET_PRIVATE", raising=False)
    assert home.locate(tmp_path).private == tmp_path / "private"


def test_sorties_cannot_see_the_private_folder(tmp_path: Path) -> None:
    shared = Home(tmp_path / "shared", private_override=tmp_path / "own")
    view = View(scratch=shared.scratch / "x", readable=(tmp_path,), hidden=shared.hidden)
    assert not view.shows(tmp_path / "own" / "credentials.json")
    assert not view.shows(tmp_path / "shared" / "artifacts")
    assert view.shows(tmp_path / "other")
