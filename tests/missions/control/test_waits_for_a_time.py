"""A sortie that waits for a time names it, with the date unless it is today."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from missions.models import Sortie
from missions.queries import sortie_json, waiting
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def sentence(when: datetime) -> str:
    mission = fleet.launch({"w": {"run": "ls", "run_at": when.isoformat()}})
    fleet.beat()
    (item,) = sortie_json.of_mission(mission)
    assert item["state"] == "waiting"
    return str(item["waits_for"])


def test_a_time_on_another_day_is_shown_with_its_date() -> None:
    text = "Waits for the time set by its plan (run_at) at 2090-01-31 06:00:00 UTC."
    assert sentence(datetime.fromisoformat("2090-01-31T07:00:00+01:00")) == text


def test_a_time_today_is_shown_without_a_date() -> None:
    mission = fleet.launch({"w": {"run": "ls"}})
    sortie = Sortie.objects.get(mission=mission)
    sortie.state, sortie.waits_for = "waiting", "its next try"
    sortie.wake_at = datetime.now(UTC)
    assert (
        waiting.waits_for(mission, sortie, [], waiting.WaitLookups())
        == f"Waits for its next try at {sortie.wake_at:%H:%M:%S} UTC."
    )
    sortie.waits_for = "its next try (2 of 3); the last one failed: It ended with exit code 1. Its last output: no"
    assert (
        waiting.waits_for(mission, sortie, [], waiting.WaitLookups())
        == f"Waits for its next try (2 of 3) at {sortie.wake_at:%H:%M:%S} UTC; "
        "the last one failed: It ended with exit code 1. Its last output: no."
    )
    sortie.wake_at -= timedelta(days=1)
    assert f"{sortie.wake_at:%Y-%m-%d}" in waiting.waits_for(mission, sortie, [], waiting.WaitLookups())
