"""The result of a task in Flower shows the outcomes of the sorties that it executed."""

from __future__ import annotations

import pytest

from fleet import ids
from missions.engine.process.task_summary import MAX_IDS, TaskSummary
from missions.engine.settlement.settling import Settlement
from missions.models import Sortie
from missions.tasks import SortiesFailed, handle_hint
from tests.support import fleet

FAILS = {"fail": "it broke"}


def summary_of(*states: str) -> TaskSummary:
    summary = TaskSummary()
    for state in states:
        summary.add(Settlement(id=ids.new(), attempt=1, state=state, outcome="failed" if state == "waiting" else state))
    return summary


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "ran nothing: other agents had claimed it"),
        (["succeeded"], "ran 1: 1 succeeded (srt_"),
        (["succeeded", "failed", "succeeded"], "ran 3: 2 succeeded, 1 failed (srt_"),
        (["waiting", "cancelled"], "ran 2: 1 to be retried, 1 cancelled (srt_"),
        (["failed"] * (MAX_IDS + 3), f"ran {MAX_IDS + 3}: {MAX_IDS + 3} failed (srt_"),
    ],
)
def test_a_result_counts_sorties_by_outcome(states: list[str], words: str) -> None:
    assert str(summary_of(*states)).startswith(words)


def test_a_result_names_a_few_sorties_failed_ones_first() -> None:
    summary = summary_of(*["succeeded"] * 1_000, "failed")
    assert str(summary).endswith(f" ({summary.first_failures[0]})")
    assert str(summary_of(*["failed"] * 12)).endswith(" and 7 more)")
    assert len(summary.first_sorties) == MAX_IDS


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_an_engine_adds_its_sorties_with_their_states_in_the_database() -> None:
    mission = fleet.launch({"good": {}, "bad": {"with": FAILS}})
    engine = fleet.engine(slots=1)
    summary = TaskSummary()
    engine.run_slot(summary=summary)
    engine.stop(within_s=5)
    assert summary.states == {"succeeded": 1, "failed": 1}
    assert summary.first_failures == [Sortie.objects.get(mission=mission, key="bad").ref]
    assert fleet.states(mission.id) == {"good": "succeeded", "bad": "failed"}


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_tolerated_failure_does_not_fail_the_task() -> None:
    fleet.launch({"bad": {"with": FAILS, "allow_failure": True}})
    engine = fleet.engine(slots=1)
    summary = TaskSummary()
    engine.run_slot(summary=summary)
    engine.stop(within_s=5)
    assert str(summary).startswith("ran 1: 1 tolerated (srt_")
    assert (summary.failed, summary.first_failures) == (0, [])


def test_a_failed_task_is_not_retried_or_logged_with_a_traceback() -> None:
    assert handle_hint.throws == (SortiesFailed,)
    assert handle_hint.ignore_result
