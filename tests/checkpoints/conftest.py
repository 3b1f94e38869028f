from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from missions.engine.runtime import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    from tests.support import fleet  # noqa: PLC0415  (imports models, for which conftest.py is too early)

    started = fleet.engine()
    yield started
    started.stop(within_s=5)
