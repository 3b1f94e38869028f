"""Finished missions are deleted by age and number; running missions and shared files stay."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from fleet.events.models import Event
from missions.models import Artifact, Attempt, Mission, Need, Sortie
from missions.operations import cleaning
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def ended_missions(count: int) -> list[Mission]:
    engine = fleet.engine()
    missions = [fleet.launch({"a": {}, "b": {"needs": ["a"]}}) for _ in range(count)]
    for mission in missions:
        fleet.run_to_end(engine, mission)
    engine.stop(within_s=5)
    return missions


def test_old_and_excess_missions_are_deleted_with_their_rows_and_files() -> None:
    old, middle, new = ended_missions(3)
    running = fleet.launch({"a": {}})
    now = timezone.now()
    Mission.objects.filter(id=old.id).update(finished_at=now - timedelta(days=40))
    assert cleaning.outdated(now=now, days=30, keep=100) == [old.id]
    assert cleaning.outdated(now=now, days=30, keep=1) == [old.id, middle.id]
    assert cleaning.remove(missions=[old.id, middle.id, running.id]) == 2
    assert set(Mission.objects.values_list("id", flat=True)) == {new.id, running.id}
    for rows in (Sortie.objects.filter(mission=old), Need.objects.filter(sortie__mission=old)):
        assert not rows.exists()
    assert Attempt.objects.filter(sortie__mission=new).count() == Attempt.objects.count() == 2
    assert not Event.objects.filter(scope=old.id).exists()


@override_settings(FLEET_CHECKPOINT_ON=[])  # a checkpoint before the cleanup would keep the bytes
def test_stored_bytes_are_deleted_with_their_last_artifact() -> None:
    first, second = ended_missions(2)
    folder = settings.FLEET_HOME.artifacts / "cd"
    folder.mkdir(exist_ok=True)
    (folder / ("cd" * 32)).write_bytes(b"shared")
    for mission in (first, second):
        Artifact.objects.create(
            sortie=Sortie.objects.get(mission=mission, key="a"),
            attempt=1,
            path="x",
            digest="cd" * 32,
            size=6,
            media_type="x",
        )
    cleaning.remove(missions=[first.id])
    assert (folder / ("cd" * 32)).exists()
    cleaning.remove(missions=[second.id])
    assert not (folder / ("cd" * 32)).exists()


def test_nothing_is_deleted_without_yes(capsys: pytest.CaptureFixture[str]) -> None:
    ended_missions(1)
    call_command("fleet_cleanup", "--most", "0")
    assert "Would remove 1 finished mission.\n" in capsys.readouterr().err
    assert Mission.objects.count() == 1
    call_command("fleet_cleanup", "--most", "0", "--yes")
    assert Mission.objects.count() == 0
