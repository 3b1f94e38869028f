from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def project(tmp_path: Path) -> Any:
    """A user's repository (tests.support.repository.Repository). `conflicting` changes its second line."""
    from tests.support import repository  # noqa: PLC0415  (conftest.py is too early for the settings)

    return repository.create(tmp_path / "project", {"app.py": "one\ntwo\nthree\n"})
