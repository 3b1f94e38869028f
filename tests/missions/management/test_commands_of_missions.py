"""fleet_mission cancel, pause, resume and retry, and what all its actions refuse."""

from __future__ import annotations

import pytest
from django.db.models.functions import Now

from fleet import ids
from missions.models import Mission
from tests.missions.management.fleet_mission import fleet_mission
from tests.support import fleet, web
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

UNKNOWN = ids.encode(ids.MISSION, ids.new())


def test_each_change_prints_the_new_state() -> None:
    ref = fleet.launch({"one": {}, "two": {}}).ref
    for action, state in (("pause", "paused"), ("resume", "running")):
        assert fleet_mission(action, ref, "--json").json["state"] == state
    assert fleet_mission("cancel", ref, "one", "--json").json["sorties"]["cancelled"] == 1
    assert fleet_mission("cancel", ref, "--reason", "not wanted", "--json").json["state"] == "cancelled"
    assert fleet_mission("retry", ref, "--json").json["state"] == "running"
    assert fleet_mission("pause", ref).err == f"{ref} is paused.\n"


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_a_change_that_the_state_does_not_allow_is_an_error_with_the_reason(action: str) -> None:
    result = fleet_mission(action, web.ended_mission().ref)
    assert result.code == 1
    assert "failed" in result.err


@pytest.mark.parametrize("action", ["show", "watch", "logs", "artifacts", "cancel", "pause", "resume", "retry"])
def test_an_unknown_mission_is_an_error_and_a_malformed_id_is_wrong_usage(action: str) -> None:
    more = ["one"] if action == "logs" else []
    for text, code in (
        (UNKNOWN, 1),
        ("latest", 1),
        ("nonsense", 1),
        ("msn_x", 2),
        ("", 2),
        ("zz", 2),
        ("a\udcff'\x1b", 1),
    ):
        result = fleet_mission(action, text, *more)
        assert result.code == code, text
        assert result.err
        assert "Error:" not in result.err
        assert "\x1b" not in result.err


@pytest.mark.parametrize("action", ["logs", "cancel", "retry"])
def test_an_unknown_sortie_is_an_error_with_a_hint(action: str) -> None:
    mission = fleet.launch({"one": {}})
    for text in ("two", ids.encode(ids.SORTIE, ids.new()), "a\udcff"):
        result = fleet_mission(action, "latest", text)
        assert (result.code, "has no sortie" in result.err) == (1, True), text
        assert f"See: ./manage.py fleet_mission show {mission.ref}\n" in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["dance"], ["show"], ["list", "-n", "-5"], ["list", "-n", "1e9"], ["list", "--state", "happy"],
        ["watch", "latest", "--timeout", "nan"], ["watch", "latest", "--timeout", "-1"], ["logs"],
        ["list", "--watch", "x"], ["show", "latest", "--state", "happy"], ["logs", "latest", "a", "--attempt", "x"],
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2_and_prints_the_usage(arguments: list[str]) -> None:
    result = fleet_mission(*arguments)
    assert result.code == 2
    error, usage = result.err.split("\nusage: ", 1)
    assert error.endswith(".")
    assert usage.startswith("./manage.py fleet_mission")


@pytest.mark.parametrize(
    ("state", "order", "message"),
    [
        ("running", "resume", "The mission is already running."),
        ("paused", "pause", "The mission is already paused."),
        ("cancelling", "cancel", "The mission is already being cancelled."),
        ("cancelling", "pause", "The mission is being cancelled; it cannot be paused."),
        ("planned", "pause", "The mission has not been started; it cannot be paused."),
        ("failed", "resume", "The mission has ended (failed); it cannot be resumed. Retry it."),
        (
            "running",
            "retry",
            "The mission is running; it cannot be retried. Wait until it has ended, or retry one of its sorties.",
        ),
    ],
)
def test_a_refused_change_states_the_state_of_the_mission_once(state: str, order: str, message: str) -> None:
    mission = fleet.launch({"one": {}})
    Mission.objects.filter(id=mission.id).update(state=state, finished_at=Now() if state == "failed" else None)
    result = manage("fleet_mission", order, mission.ref)
    assert (result.code, result.err.strip()) == (1, message)
