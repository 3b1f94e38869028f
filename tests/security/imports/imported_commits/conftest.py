from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def project(tmp_path: Path) -> Any:
    """The repository of the missions (tests.support.repository.Repository)."""
    from tests.support import repository  # noqa: PLC0415  (conftest.py is too early for the settings)

    return repository.create(tmp_path / "project", {"app.py": "one\ntwo\n", "old.txt": "old\n"})


@pytest.fixture
def attacker(project: Any, tmp_path: Path) -> Any:
    """A clone of the repository in which an attacker prepares commits."""
    from tests.support.repository import Repository  # noqa: PLC0415

    project.git("clone", "--quiet", str(project.path), str(tmp_path / "attacker"))
    return Repository(tmp_path / "attacker")


@pytest.fixture
def exported(project: Any, engine: Any) -> bytes:
    """An exported mission that has landed one commit."""
    from checkpoints import operations  # noqa: PLC0415
    from tests.security.imports.imported_commits.hostile_commits import EDIT  # noqa: PLC0415
    from tests.support import fleet  # noqa: PLC0415
    from tests.support.work import archives, restoring  # noqa: PLC0415

    mission = restoring.launch(project, EDIT)
    fleet.run_to_end(engine, mission)
    return archives.export(operations.capture(missions=[mission.id]))
