"""Ages and durations on the pages: two units at most, and none is torn from its number at the end of a line."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.admin import pages


@pytest.mark.parametrize(
    "seconds, told",
    [(-1, "0 s"), (0.44, "0.4 s"), (12.9, "13 s"), (185, "3 min 5 s"), (7_800, "2 h 10 min"), (442_800, "5 d 3 h")],
)
def test_a_span_is_told_in_two_units_at_most(seconds: float, told: str) -> None:
    assert pages.span(seconds).replace("\u00a0", " ") == told


@pytest.mark.django_db
def test_an_age_is_told_in_one() -> None:
    assert pages.ago(timezone.now() - timedelta(minutes=3, seconds=7)) == "3\u00a0min\u00a0ago"
    assert pages.ago(timezone.now() - timedelta(days=2, hours=5)) == "2\u00a0d\u00a0ago"
    assert pages.ago(None) == "–"
