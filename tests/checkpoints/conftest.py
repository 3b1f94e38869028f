from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_checkpoints() -> Iterator[None]:
    """Start without checkpoints: other tests leave files behind whose rows have been removed."""
    from django.conf import settings  # noqa: PLC0415  (conftest.py is too early for the settings)

    shutil.rmtree(settings.FLEET_CHECKPOINTS, ignore_errors=True)
    yield
    shutil.rmtree(settings.FLEET_CHECKPOINTS, ignore_errors=True)
