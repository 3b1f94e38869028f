"""The resume value of an attempt is stored while it runs and when it ends, and the next attempt gets it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models.functions import Now

from agents.confinement.attempt_limits import RESUME_BYTES
from agents.drivers.base import Stop
from fleet.postgres import statements
from missions import operations
from missions.control import duties
from missions.engine.output.writer import CLOSE_TRIES, OutputWriter
from missions.engine.process.runtime import Engine
from missions.models import Attempt, Mission, Output, Sortie
from tests.support import fleet
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

VALUE = {"session": "ünï-1", "position": [1, 2.5, None]}
RETRY = {"max_attempts": 3, "backoff": "0.01s"}
SHOW = 'test -e "$FLEET_RESUME" && cp "$FLEET_RESUME" "$FLEET_RESULT" || echo \'"nothing"\' > "$FLEET_RESULT"'


def resumes(mission: Mission) -> dict[int, Any]:
    return dict(Attempt.objects.filter(sortie__mission=mission).order_by("number").values_list("number", "resume"))


def result(mission: Mission) -> Any:
    return Attempt.objects.filter(sortie__mission=mission, state="succeeded").values_list("result", flat=True).get()


def steps(**by_attempt: str) -> dict[str, Any]:
    """A sortie with a command for each attempt: `first`, `second`, `third`."""
    numbers = {"first": 1, "second": 2, "third": 3}
    cases = " ".join(f"*/{numbers[name]}) {command};;" for name, command in by_attempt.items())
    return {"run": f"case $FLEET_ATTEMPT in {cases} esac", "retry": RETRY}


def store(sortie: Sortie, *, attempt: int, resume: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.engine.output", "store_resume"),
            {"ids": [sortie.id], "attempts": [attempt], "resumes": [resume]},
        )


@pytest.mark.parametrize("value", [VALUE, "ses_1", 7, [], "x" * (RESUME_BYTES - 2)], ids=str)
def test_a_retry_gets_what_the_failed_try_saved(engine: Engine, value: Any) -> None:
    work = {"with": {"resume": value, "fail_times": 1, "result_resume": True}, "retry": RETRY}
    mission = fleet.launch({"one": work})
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert resumes(mission) == {1: value, 2: value}
    assert result(mission) == value


def test_what_a_command_saves_just_before_it_fails_is_not_lost(engine: Engine) -> None:
    save = """printf '{"n": 1}' > $FLEET_RESUME; exit 1"""
    mission = fleet.launch({"one": steps(first=save, second=SHOW)})
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert resumes(mission) == {1: {"n": 1}, 2: None}
    assert result(mission) == {"n": 1}


def test_it_is_stored_within_two_seconds_after_it_is_written(engine: Engine, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    work = f"""
        printf '{{"n": 1}}' > $FLEET_RESUME; date +%s.%N > {tmp_path}/1
        until test -e {flag}; do sleep 0.05; done
        printf '{{"n": 2}}' > $FLEET_RESUME.new; mv $FLEET_RESUME.new $FLEET_RESUME; date +%s.%N > {tmp_path}/2
        sleep 60"""
    mission = fleet.launch({"one": {"run": work}}, folder=str(tmp_path))
    engine._start_another_slot()
    for number in (1, 2):
        until(lambda: resumes(mission) == {1: {"n": number}})  # noqa: B023
        assert time.time() - float((tmp_path / str(number)).read_text()) < 2
        flag.touch()
    operations.cancel(mission=mission.id)


def test_the_newest_earlier_attempt_that_saved_anything_counts(engine: Engine) -> None:
    save = """printf '{"n": 1}' > $FLEET_RESUME; exit 1"""
    mission = fleet.launch({"one": steps(first=save, second="exit 1", third=SHOW)})
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert resumes(mission) == {1: {"n": 1}, 2: None, 3: None}
    assert result(mission) == {"n": 1}


def test_null_makes_the_next_attempt_start_over(engine: Engine) -> None:
    save = """printf '{"n": 1}' > $FLEET_RESUME; exit 1"""
    forget = "echo null > $FLEET_RESUME; exit 1"
    mission = fleet.launch({"one": steps(first=save, second=forget, third=SHOW)})
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert result(mission) == "nothing"


def test_after_a_rescue_the_next_attempt_gets_it_and_the_lost_attempt_can_save_nothing_more(engine: Engine) -> None:
    mission = fleet.launch({"one": {"with": {"result_resume": True}}})
    zombie = Sortie.objects.get(mission=mission)
    lost_engine = fleet.engine()
    lost_engine.drain()
    (claim,) = lost_engine.committer.settle_and_claim(max_claims=1)
    store(zombie, attempt=claim.attempt, resume='{"n": 1}')
    Sortie.objects.filter(id=zombie.id).update(lease_until=Now())
    duties.rescue()
    store(zombie, attempt=claim.attempt, resume='{"n": "too late"}')
    assert fleet.run_to_end(engine, mission) == "succeeded"
    store(zombie, attempt=2, resume='{"n": "after its end"}')
    assert resumes(mission) == {1: {"n": 1}, 2: None}
    assert result(mission) == {"n": 1}
    lost_engine.stop(within_s=0)


def test_after_a_drain_the_next_attempt_gets_what_was_saved_at_the_stop(engine: Engine, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    wait = f"trap 'echo 1 > $FLEET_RESUME; exit 1' TERM; touch {ready}; while true; do sleep 0.05; done"
    mission = fleet.launch({"one": steps(first=wait, second=SHOW)}, folder=str(tmp_path))
    drained_engine = fleet.engine()
    drained_engine._start_another_slot()
    until(ready.exists)
    drained_engine.stop(within_s=0)
    assert list(Attempt.objects.values_list("state", "resume")) == [("returned", 1)]
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert (result(mission), Sortie.objects.get(mission=mission).tries) == (1, 0)


def test_a_retry_by_a_user_gets_it_too(engine: Engine) -> None:
    save = """printf '{"n": 1}' > $FLEET_RESUME; exit 1"""
    mission = fleet.launch({"one": {**steps(first=save, second=SHOW), "retry": {"max_attempts": 1}}})
    assert fleet.run_to_end(engine, mission) == "failed"
    operations.retry(mission=mission.id, can_execute=True)
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert result(mission) == {"n": 1}


def test_verify_finds_what_the_work_has_left(engine: Engine) -> None:
    save = """printf '{"n": 1}' > $FLEET_RESUME; exit 1"""
    work = steps(first=save, second="printf 2 > $FLEET_RESUME")
    mission = fleet.launch({"one": {**work, "verify": 'test "$(cat $FLEET_RESUME)" = 2'}})
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert resumes(mission) == {1: {"n": 1}, 2: 2}


def test_a_value_that_is_too_large_fails_nothing_and_is_noted_once(engine: Engine) -> None:
    work = (
        f"echo 1 > $FLEET_RESUME; sleep 1; head -c {RESUME_BYTES + 1} /dev/zero | tr '\\0' 1 > $FLEET_RESUME; sleep 1"
    )
    mission = fleet.launch({"one": {"run": work}})
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert resumes(mission) == {1: 1}
    (note,) = Output.objects.filter(stream="fleet").values_list("text", flat=True)
    assert "larger than 65,536 bytes" in note


def test_an_outage_loses_no_value_before_the_lease_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("missions.engine.output.writer.FLUSH_S", 0.001)
    mission = fleet.launch({"one": {}})
    engine = fleet.engine()
    engine.drain()
    (claim,) = engine.committer.settle_and_claim(max_claims=1)
    writer = OutputWriter(max_bytes=1_000)
    write, calls = writer._write, 0

    def fail_at_first(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls <= CLOSE_TRIES + 5:
            raise psycopg.OperationalError("away")
        write(*arguments)

    monkeypatch.setattr(writer, "_write", fail_at_first)
    buffer = writer.buffer(sortie=claim.id, attempt=claim.attempt)
    buffer.save_resume(value={"n": 1})
    writer._flush([buffer])
    buffer.save_resume(value={"n": 2})
    writer.close(buffer, stop=Stop(lease_end=time.monotonic() + 60))
    assert resumes(mission) == {1: {"n": 2}}

    calls = -1_000_000
    monkeypatch.setattr(writer, "_write", _away)
    buffer.save_resume(value={"n": 3})
    writer.close(buffer, stop=Stop(lease_end=time.monotonic()))
    assert resumes(mission) == {1: {"n": 2}}
    engine.stop(within_s=0)


def _away(*_: Any) -> None:
    raise psycopg.OperationalError("away")


def test_attempts_that_report_nothing_open_no_connection_for_it(engine: Engine) -> None:
    fleet.run_to_end(engine, fleet.launch({"one": {"run": "true"}}))
    assert engine.output_writer._connection is None
    fleet.run_to_end(engine, fleet.launch({"one": {"run": "echo 1"}}))
    assert engine.output_writer._connection is not None
