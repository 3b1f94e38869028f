"""A restore brings back the resume values that drivers had saved, whatever later attempts have saved since."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db.models.functions import Now

from checkpoints import operations
from missions.models import Attempt, Mission, Sortie
from tests.support import fleet
from tests.support.waiting import until
from tests.support.work.restoring import finish, restore

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

# Returns the resume value that it gets.
LOOK = {"one": {"run": 'cp "$FLEET_RESUME" "$FLEET_RESULT"'}}


def with_attempts(mission: Mission, *saved: Any) -> Sortie:
    """The only sortie of a mission, after ended attempts that saved these values."""
    row = Sortie.objects.get(mission=mission)
    for number, resume in enumerate(saved, 1):
        Attempt.objects.create(sortie=row, number=number, state="failed", finished_at=Now(), resume=resume)
    Sortie.objects.filter(id=row.id).update(attempt=len(saved), state="ready")
    row.refresh_from_db()
    return row


def result_of_next_attempt(mission: Mission) -> Any:
    assert finish(mission) == "succeeded"
    return Attempt.objects.filter(sortie__mission=mission).order_by("number").last().result  # type: ignore[union-attr]


def test_a_restore_brings_back_the_saved_value_that_later_attempts_replaced(tmp_path: Any) -> None:
    mission = fleet.launch(LOOK, folder=str(tmp_path))
    row = with_attempts(mission, {"step": 7, "exact": 2**60 + 1})
    checkpoint = operations.capture(missions=[mission.id])
    for number in (2, 3):
        Attempt.objects.create(sortie=row, number=number, state="failed", finished_at=Now(), resume={"step": 9})
    Sortie.objects.filter(id=row.id).update(attempt=3)
    restore(checkpoint)
    assert result_of_next_attempt(mission) == {"step": 7, "exact": 2**60 + 1}


def test_a_restore_to_a_time_before_any_value_was_saved_has_none(tmp_path: Any) -> None:
    mission = fleet.launch(
        {"one": {"run": 'if test -f "$FLEET_RESUME"; then echo 1; else echo 0; fi > "$FLEET_RESULT"'}}
    )
    row = with_attempts(mission, None)
    checkpoint = operations.capture(missions=[mission.id])
    Attempt.objects.create(sortie=row, number=2, state="failed", finished_at=Now(), resume={"step": 9})
    Sortie.objects.filter(id=row.id).update(attempt=2)
    restore(checkpoint)
    assert result_of_next_attempt(mission) == 0


def test_the_replaced_state_comes_back_with_its_saved_value(tmp_path: Any) -> None:
    mission = fleet.launch(LOOK, folder=str(tmp_path))
    row = with_attempts(mission, {"step": 7})
    checkpoint = operations.capture(missions=[mission.id])
    Attempt.objects.filter(sortie=row).update(resume={"step": 8})
    safety = restore(checkpoint).safety
    assert safety is not None
    restore(safety)
    assert result_of_next_attempt(mission) == {"step": 8}


def test_the_saved_value_comes_back_after_the_rows_were_deleted(tmp_path: Any) -> None:
    mission = fleet.launch(LOOK, folder=str(tmp_path))
    with_attempts(mission, None, {"step": 7})
    checkpoint = operations.capture(missions=[mission.id])
    mission.delete()
    new_mission = restore(checkpoint).mission
    assert result_of_next_attempt(new_mission) == {"step": 7}
    assert list(Attempt.objects.values_list("number", "state")) == [(1, "lost"), (2, "succeeded")]
    copy = Attempt.objects.get(number=1)
    assert copy.started_at == copy.finished_at, "it did not run until the restore"


def test_a_fork_starts_from_the_beginning(tmp_path: Any) -> None:
    mission = fleet.launch(
        {"one": {"run": 'if test -f "$FLEET_RESUME"; then echo 1; else echo 0; fi > "$FLEET_RESULT"'}}
    )
    with_attempts(mission, {"step": 7})
    forked = operations.fork(checkpoint=operations.capture(missions=[mission.id]), can_execute=True).mission
    assert result_of_next_attempt(forked) == 0


def test_a_running_attempt_does_not_save_any_more_after_a_restore(tmp_path: Any) -> None:
    work = 'echo "{\\"step\\": 1}" > "$FLEET_RESUME"; touch ready; sleep 3; echo "{\\"step\\": 2}" > "$FLEET_RESUME"; sleep 600'
    mission = fleet.launch({"one": {"run": work}}, folder=str(tmp_path))
    engine = fleet.engine()
    thread = threading.Thread(target=engine.run_slot, daemon=True)
    thread.start()
    try:
        until(lambda: Attempt.objects.filter(resume={"step": 1}).exists())
        checkpoint = operations.capture(missions=[mission.id])
        restore(checkpoint)
        assert Attempt.objects.get().resume == {"step": 1}
        until(lambda: Attempt.objects.get().state == "lost")
    finally:
        engine.stop(within_s=10)
        thread.join(10)
    assert Attempt.objects.get().resume == {"step": 1}
