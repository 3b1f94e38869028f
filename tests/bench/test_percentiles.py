"""A percentile is the value at the nearest rank."""

from __future__ import annotations

import math

import pytest

from bench.percentiles import percentile


@pytest.mark.parametrize(
    ("number", "share", "expected"), [(1, 0.95, 1), (4, 0.95, 4), (20, 0.95, 19), (100, 0.95, 95), (100, 0.5, 50)]
)
def test_it_is_exceeded_by_at_most_the_remaining_share(number: int, share: float, expected: int) -> None:
    assert percentile(reversed(range(1, number + 1)), share) == expected


def test_nothing_measured_has_no_percentile() -> None:
    assert math.isnan(percentile([], 0.5))
