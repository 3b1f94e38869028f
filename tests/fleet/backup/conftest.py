from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def installation(tmp_path: Path, django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    """An installation with data of every kind (tests/support/processes/installation.py)."""
    from tests.support.processes import installation  # noqa: PLC0415  (imports Django's)

    with installation.populated(tmp_path, django_db_blocker) as populated:
        yield populated
