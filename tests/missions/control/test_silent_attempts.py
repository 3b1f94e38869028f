"""An attempt without output for long raises an alert; an attempt of a prompt is stopped in the end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db.models.functions import Now
from django.test import override_settings

from agents.drivers.base import Stop
from agents.models import AgentType
from fleet import ids
from missions.claims import Claim
from missions.control import alerts
from missions.engine.attempts import preparation
from missions.engine.attempts.preparation import TypeSettings
from missions.engine.output.writer import ACTIVITY_S, OutputWriter
from missions.models import Attempt, Sortie
from missions.operations import external_agents
from missions.plan import SortieSpec
from tests.support import fleet
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def agent() -> UUID:
    return external_agents.register(agent_type="backend", concurrency=9).id


@pytest.fixture
def output_writer() -> Iterator[OutputWriter]:
    writer = OutputWriter(max_bytes=1_000)
    writer.start()
    yield writer
    writer.stop()
    writer.join(60)


def silent_alerts() -> dict[str, str]:
    """The alerts about silent sorties, by the key of the sortie."""
    alerts.AlertMonitor().check()
    keys = {sortie.ref: sortie.key for sortie in Sortie.objects.all()}
    return {keys[alert["subject"]]: alert["message"] for alert in alerts.active() if alert["rule"] == "silent"}


def start_minutes_ago(minutes: float) -> None:
    Sortie.objects.update(started_at=Now() - timedelta(minutes=minutes))


def test_a_silent_attempt_raises_an_alert_and_one_with_output_does_not(agent: UUID) -> None:
    mission = fleet.launch({"still": {}, "loud": {}, "once": {}})
    leases = {lease.key: lease for lease in external_agents.claim(agent=agent, count=3)}
    start_minutes_ago(60)
    external_agents.progress(token=leases["loud"].token, output="hello\n")
    external_agents.progress(token=leases["once"].token, note="begun")
    Attempt.objects.filter(sortie=leases["once"].sortie).update(last_activity_at=Now() - timedelta(minutes=31))
    found = silent_alerts()
    assert found.keys() == {"still", "once"}
    log = f"./manage.py fleet_mission logs {mission.ref} once"
    assert "No output from 'once' of 'A test' for 31 min" in found["once"]
    assert f"; it keeps running. See its log: {log}." in found["once"]
    external_agents.complete(token=leases["still"].token)
    external_agents.progress(token=leases["once"].token, output="and again\n")
    with override_settings(FLEET_ALERT_QUIET_S=0):
        assert silent_alerts() == {}


def test_the_plan_overrides_the_type_and_the_type_overrides_the_setting(agent: UUID) -> None:
    AgentType.objects.filter(name="testing").update(alert_silence_s=0)
    AgentType.objects.filter(name="documentation").update(alert_silence_s=7_200)
    fleet.launch(
        {
            "setting": {},
            "plan": {"alert_silence": "2h"},
            "never": {"agent": "testing"},
            "but": {"agent": "testing", "alert_silence": "1m"},
            "type": {"agent": "documentation"},
        }
    )
    external_agents.claim(agent=agent, count=9)
    for kind in ("testing", "documentation"):
        external_agents.claim(agent=external_agents.register(agent_type=kind, concurrency=9).id, count=9)
    assert Sortie.objects.filter(state="running").count() == 5
    start_minutes_ago(60)
    assert silent_alerts().keys() == {"setting", "but"}
    with override_settings(FLEET_ALERT_SILENCE_S=0, FLEET_ALERT_QUIET_S=0):
        assert silent_alerts().keys() == {"but"}
    start_minutes_ago(180)
    assert silent_alerts().keys() == {"setting", "but", "plan", "type"}


def test_output_counts_as_activity_even_if_it_is_not_stored(agent: UUID, output_writer: OutputWriter) -> None:
    fleet.launch({"one": {}})
    (lease,) = external_agents.claim(agent=agent)

    def last_activity_at() -> Any:
        return Attempt.objects.values_list("last_activity_at", flat=True).get()

    buffer = output_writer.buffer(sortie=lease.sortie, attempt=lease.attempt)
    buffer.output(stream="stdout", data=b"x" * 10_000)  # more than is kept
    buffer.activity_recorded_at -= ACTIVITY_S
    until(lambda: last_activity_at() is not None)
    first = last_activity_at()
    buffer.activity_recorded_at -= ACTIVITY_S
    buffer.output(stream="stdout", data=b"y" * 10_000)  # stays in memory until the end
    until(lambda: last_activity_at() > first)
    output_writer.close(buffer, stop=Stop())


@pytest.mark.parametrize(
    ("spec", "silence_s"),
    [
        (SortieSpec(key="k", name="k", agent_type="backend", driver="prompt", prompt="x"), 1_800),
        (SortieSpec(key="k", name="k", agent_type="backend", driver="prompt", prompt="x", silence_s=5), 5),
        (SortieSpec(key="k", name="k", agent_type="backend", driver="command", run="x"), None),
    ],
    ids=["a prompt", "a prompt whose plan says more", "a command"],
)
def test_prompts_have_a_default_limit_of_silence(spec: SortieSpec, silence_s: float | None, tmp_path: Path) -> None:
    mission = fleet.launch({"k": {}})
    AgentType.objects.filter(name="backend").update(prompt_argv=["cat"])
    claim = Claim(
        id=mission.sorties.get().id, mission=mission.id, key="k", attempt=1, tries=0, max_tries=1, spec=spec.as_json()
    )
    kit = TypeSettings(agent_type="backend")
    prepared = preparation.prepare(
        claim=claim, spec=spec, type_settings=kit, folder=tmp_path / ids.encode(ids.SORTIE, claim.id)
    )
    assert prepared.brief.limits.silence_s == silence_s
