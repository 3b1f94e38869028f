"""Ages and durations on pages have at most two units, and no line break separates a number from its unit."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.admin import pages


@pytest.mark.parametrize(
    "seconds, words",
    [(-1, "0 s"), (0.44, "0.4 s"), (12.9, "13 s"), (185, "3 min 5 s"), (7_800, "2 h 10 min"), (442_800, "5 d 3 h")],
)
def test_a_duration_has_at_most_two_units(seconds: float, words: str) -> None:
    assert pages.span(seconds).replace("\u00a0", " ") == words


@pytest.mark.django_db
def test_an_age_has_one_unit() -> None:
    assert pages.ago(timezone.now() - timedelta(minutes=3, seconds=7)) == "3\u00a0min\u00a0ago"
    assert pages.ago(timezone.now() - timedelta(days=2, hours=5)) == "2\u00a0d\u00a0ago"
    assert pages.ago(None) == "–"
