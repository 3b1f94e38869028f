from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def project(settings: Any, tmp_path: Path) -> str:
    """A folder that launches over the API may use."""
    settings.FLEET_FOLDERS = [str(tmp_path)]
    folder = tmp_path / "project"
    folder.mkdir()
    return str(folder)
