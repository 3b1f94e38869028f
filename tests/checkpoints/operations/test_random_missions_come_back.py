"""Whatever happens to a mission, each checkpoint restores it exactly, and increments equal full captures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.models.functions import Now
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pytest_django import Settings

from checkpoints import operations
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from checkpoints.rows import reading
from fleet import errors
from missions import operations as missions
from missions.engine.process.runtime import Engine
from missions.models import Mission, Sortie
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

TYPES = ("backend", "frontend")


@pytest.fixture
def engines(settings: Settings) -> Iterator[dict[str, Engine]]:
    """Engines that run only on demand, so that nothing changes between two reads."""
    settings.FLEET_POLL_INTERVAL_S = 3_600
    started = {name: fleet.engine(name, slots=1) for name in TYPES}
    yield started
    for engine in started.values():
        engine.stop(within_s=5)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Up to eight sorties of two types, each of which may need earlier ones, fail, be tolerated, or add others."""
    sorties: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 8))):
        work: dict[str, Any] = {"result": draw(st.sampled_from([None, 1, "ü", 2**60 + 1, [1.5, {"a": []}]]))}
        match draw(st.integers(0, 5)):
            case 0:
                work = {"fail": "no"}
            case 1:
                work["add"] = [{"name": f"added{number}", "agent": draw(st.sampled_from(TYPES)), "driver": "scripted"}]
            case 2:
                work = {"fail_times": 1}
        sorties[f"s{number}"] = {
            "agent": draw(st.sampled_from(TYPES)),
            "with": work,
            "needs": draw(st.lists(st.sampled_from(list(sorties)), unique=True, max_size=3)) if sorties else [],
            "allow_failure": draw(st.booleans()),
            **({"if": "always"} if draw(st.integers(0, 4)) == 0 else {}),
            **({"retry": {"max_attempts": 2, "backoff": "1ms"}} if draw(st.booleans()) else {}),
        }
    return sorties


class RandomMission:
    """A mission, the steps that can happen to it, and its checkpoints with the digests at their capture."""

    def __init__(self, sorties: dict[str, Any], engines: dict[str, Engine]) -> None:
        self.mission = fleet.launch(sorties)
        self.engines = engines
        self.captured: list[tuple[Checkpoint, str]] = []

    def digest(self) -> str:
        with reading.snapshot():
            return reading.mission(self.mission.id).entry({}).digest

    def fly(self, draw: Callable[..., Any]) -> None:
        self.engines[draw(st.sampled_from(TYPES))].run_slot()
        fleet.beat()

    def cancel_sortie(self, draw: Callable[..., Any]) -> None:
        self._on_any_sortie(draw, lambda row: missions.cancel_sortie(sortie=row.id, reason="no"))

    def retry_sortie(self, draw: Callable[..., Any]) -> None:
        self._on_any_sortie(draw, lambda row: missions.retry_sortie(sortie=row.id, can_execute=True))

    def _on_any_sortie(self, draw: Callable[..., Any], act: Callable[[Sortie], object]) -> None:
        rows = list(Sortie.objects.filter(mission=self.mission).order_by("key"))
        try:
            act(rows[draw(st.integers(0, 19)) % len(rows)])
        except errors.Conflict:
            return  # not allowed in the current state

    def pause_or_resume(self, draw: Callable[..., Any]) -> None:
        row = Mission.objects.get(id=self.mission.id)
        if row.state == "running":
            missions.pause(mission=row.id)
        elif row.state == "paused":
            missions.resume(mission=row.id, can_execute=True)

    def prioritise(self, draw: Callable[..., Any]) -> None:
        try:
            missions.prioritise(mission=self.mission.id, priority=draw(st.integers(-5, 5)))
        except errors.Conflict:
            return  # it has ended

    def capture(self, draw: Callable[..., Any]) -> None:
        checkpoint = operations.capture(missions=[self.mission.id])
        (entry,) = storage.read_manifest(checkpoint.ref).missions
        assert entry.digest == self.digest(), "an increment must equal a full capture"
        self.captured.append((checkpoint, entry.digest))

    def restore(self, draw: Callable[..., Any]) -> None:
        if not self.captured:
            return
        checkpoint, digest = self.captured[draw(st.integers(0, 19)) % len(self.captured)]
        before = self.digest()
        safety = operations.restore(checkpoint=checkpoint, can_execute=True).safety
        assert self.digest() == digest
        assert safety is not None
        self.captured.append((safety, before))

    def fork(self, draw: Callable[..., Any]) -> None:
        if not self.captured:
            return
        checkpoint, digest = self.captured[-1]
        forked = operations.fork(checkpoint=checkpoint, can_execute=True).mission
        with reading.snapshot():
            assert reading.mission(forked.id).entry({}).digest == digest


STEPS = (
    "fly",
    "fly",
    "cancel_sortie",
    "retry_sortie",
    "pause_or_resume",
    "prioritise",
    "capture",
    "capture",
    "restore",
    "fork",
)


@examples(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_checkpoint_puts_its_mission_back_exactly(data: st.DataObject, engines: dict[str, Engine]) -> None:
    tracked = RandomMission(data.draw(plans()), engines)
    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=4, max_size=14)):
        getattr(tracked, step)(data.draw)
    tracked.capture(data.draw)
    tracked.restore(data.draw)
    if Mission.objects.get(id=tracked.mission.id).state == "paused":
        missions.resume(mission=tracked.mission.id, can_execute=True)
    # Sorties that a restore created again wait for the duration of a lease, which would take too long here.
    Sortie.objects.filter(mission=tracked.mission.id, state="waiting").update(wake_at=Now())
    for _ in range(40):
        for engine in engines.values():
            engine.run_slot()
        fleet.beat()
        if Mission.objects.get(id=tracked.mission.id).state in ("succeeded", "failed"):
            break
    assert Mission.objects.get(id=tracked.mission.id).state in ("succeeded", "failed"), fleet.states(tracked.mission.id)
