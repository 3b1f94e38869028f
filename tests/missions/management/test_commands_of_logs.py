"""fleet_mission logs: the output of sorties and of their attempts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from missions.engine.process.runtime import Engine
from missions.management import mission_output
from tests.missions.management.fleet_mission import fleet_mission
from tests.support import fleet, web
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_logs_print_the_output_of_a_sortie_as_text_or_as_json(engine: Engine) -> None:
    mission = fleet.launch(
        {"one": {"run": "echo out; echo err >&2"}, "two": {"needs": ["one"], "run_at": "2090-01-01T00:00:00Z"}}
    )
    until(lambda: (engine.run_slot(), fleet.states(mission.id)["one"] == "succeeded")[1])
    until(lambda: fleet_mission("logs", mission.ref, "one").out == "out\n")
    assert fleet_mission("logs", mission.ref, "one").err == "err\n"
    pieces = fleet_mission("logs", mission.ref, "one", "--json").json
    assert {piece["stream"]: piece["text"] for piece in pieces} == {"stdout": "out\n", "stderr": "err\n"}
    assert all(set(piece) == {"mission", "sortie", "key", "attempt", "stream", "at", "text"} for piece in pieces)
    assert fleet_mission("logs", mission.ref, "one", "--jsonl").lines == pieces
    result = fleet_mission("logs", mission.ref, "one", "-f", "--attempt", "1")
    assert (result.code, result.out) == (0, "out\n")
    assert "has not started" in fleet_mission("logs", mission.ref, "two").err
    missing = fleet_mission("logs", mission.ref, "one", "--attempt", "2")
    assert (missing.code, missing.out) == (1, "")
    assert "no attempt 2" in missing.err


def test_following_a_skipped_sortie_ends_at_once() -> None:
    mission = web.ended_mission()
    assert fleet_mission("logs", mission.ref, "late", "-f").code == 0


def test_following_a_sortie_shows_its_retries_until_it_has_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    mission = fleet.launch(
        {
            "one": {
                "run": "echo attempt ${FLEET_ATTEMPT#*/}; test ${FLEET_ATTEMPT#*/} = 3",
                "retry": {"max_attempts": 3, "backoff": "0.1s"},
            }
        }
    )

    def run_engine(_: float) -> None:
        engine.run_slot()
        fleet.beat()

    monkeypatch.setattr(
        mission_output, "time", SimpleNamespace(sleep=run_engine)
    )  # the engine runs while the command waits
    result = fleet_mission("logs", mission.ref, "one", "-f")
    assert (result.code, result.out) == (0, "attempt 1\nattempt 2\nattempt 3\n")
    assert fleet.states(mission.id) == {"one": "succeeded"}


def test_following_one_attempt_ends_with_that_attempt(engine: Engine) -> None:
    mission = fleet.launch({"one": {"run": "echo first; false", "retry": {"max_attempts": 2, "backoff": "100s"}}})
    until(lambda: (engine.run_slot(), fleet.states(mission.id)["one"] == "waiting")[1])
    result = fleet_mission("logs", mission.ref, "one", "-f", "--attempt", "1")
    assert (result.code, result.out) == (0, "first\n")


def test_logs_say_if_a_sortie_printed_nothing(engine: Engine) -> None:
    mission = fleet.launch({"one": {}})
    fleet.run_to_end(engine, mission)
    result = fleet_mission("logs", mission.ref, "one")
    assert (result.out, result.err) == ("", "one has printed nothing.\n")
    assert fleet_mission("logs", mission.ref, "one", "--json").err == ""
