"""The CPU time of costly requests is charged to the minute in which the charge began."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from django.core.cache import cache

from fleet.limits import costs

USER = 4_711


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def test_charges_of_one_minute_add_up_to_the_budget(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 90.0)
    settings.FLEET_LIMIT_COST_S = 1
    costs.begin()
    costs.charge(USER, 0.4)
    costs.check(USER)
    costs.add(0.3)
    costs.charge(USER, 0.4)
    with pytest.raises(costs.BudgetExceeded):
        costs.check(USER)


def test_a_charge_at_the_end_of_a_minute_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = itertools.count()
    monkeypatch.setattr(time, "time", lambda: 60.0 * next(minutes))  # every reading of the clock is a minute later
    for _ in range(3):
        costs.charge(USER, 0.4)
