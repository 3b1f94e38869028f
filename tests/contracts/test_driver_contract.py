"""What every driver must do. A new driver adds its way of doing each deed to `DEEDS` and passes all of these tests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from agents import drivers
from agents.drivers import reaper
from agents.drivers.base import Limits, StopReason
from fleet import ids
from tests.support.flights import Ear, Flight, brief, left_of, until

HERE = "tests.contracts.callables"
VALUE = {"a": [1, 2.5, None, "ü"]}

Deed = Callable[..., dict[str, Any]]


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"call": f"{HERE}:{name}", "arguments": arguments}


DEEDS: dict[str, dict[str, Deed]] = {
    "command": {
        "give": lambda value: {
            "shell": 'printf %s "$VALUE" > "$FLEET_RESULT"',
            "env": {"VALUE": json.dumps(value)},
        },
        "fail": lambda: {"shell": "echo no such luck >&2; exit 3"},
        "wait": lambda: {"argv": ("sleep", "600")},
        "tell": lambda: {"shell": 'echo said; echo "0.25 a quarter" > "$FLEET_PROGRESS"'},
        "ask": lambda: {"shell": 'echo \'[{"name": "more", "agent": "backend", "run": "true"}]\' > "$FLEET_SORTIES"'},
        "large": lambda: {"shell": 'printf \'"%02000d"\' 0 > "$FLEET_RESULT"'},
        "environment": lambda: {"shell": "env"},
        "show_token": lambda: {
            "shell": 'test -z "$FLEET_TOKEN" || printf %s "$FLEET_TOKEN" | sha256sum; echo "$FLEET_TOKEN" | tee /dev/stderr;'
            'echo "0.5 $FLEET_TOKEN" > "$FLEET_PROGRESS"; printf \'"%s"\' "$FLEET_TOKEN" > "$FLEET_RESULT"; exit $CODE'
        },
        "resume": lambda: {
            "shell": 'if test -e "$FLEET_RESUME"; then cp "$FLEET_RESUME" "$FLEET_RESULT"; '
            'else echo null > "$FLEET_RESULT"; fi'
        },
        "save": lambda value, then_s: {
            "shell": 'printf %s "$VALUE" > "$FLEET_RESUME.new"; mv "$FLEET_RESUME.new" "$FLEET_RESUME"; exec sleep $THEN',
            "env": {"VALUE": json.dumps(value), "THEN": str(then_s)},
        },
        "save_at_the_stop": lambda value, ready: {
            "shell": 'trap \'printf %s "$VALUE" > "$FLEET_RESUME"; exit 1\' TERM; touch "$READY"; '
            "while true; do sleep 0.05; done",
            "env": {"VALUE": json.dumps(value), "READY": ready},
        },
        "daemon": lambda: {"shell": "setsid sleep 600 >/dev/null 2>&1 & true"},
        "hold": lambda processes, megabytes: {
            "shell": f"for i in $(seq {processes}); do setsid {sys.executable} -c "
            f"\"held = b'x' * {megabytes}_000_000; import time; time.sleep(600)\" & done; wait"
        },
        "write": lambda files, megabytes, then_s: {
            "shell": f"for i in $(seq {files}); do head -c {megabytes}000000 /dev/zero > file$i || exit; done; "
            f"sleep {then_s}"
        },
    },
    "python": {
        "give": lambda value: _call("give", value=value),
        "fail": lambda: _call("fail", text="no such luck"),
        "wait": lambda: _call("wait"),
        "tell": lambda: _call("tell", output="said", fraction=0.25, note="a quarter"),
        "ask": lambda: _call("ask"),
        "large": lambda: _call("give", value="0" * 2_000),
        "environment": lambda: _call("environment"),
        "show_token": lambda: _call("show_token"),
        "resume": lambda: _call("show_resume"),
        "save": lambda value, then_s: _call("save", value=value, then_s=then_s),
        "save_at_the_stop": lambda value, ready: _call("save_at_the_stop", value=value, ready=ready),
        "daemon": lambda: _call("leave_a_daemon"),
        "hold": lambda processes, megabytes: _call("hold_memory", processes=processes, megabytes=megabytes),
        "write": lambda files, megabytes, then_s: _call("write_files", files=files, megabytes=megabytes, then_s=then_s),
    },
    "scripted": {
        "give": lambda value: {"arguments": {"result": value}},
        "fail": lambda: {"arguments": {"fail": "no such luck"}},
        "wait": lambda: {"arguments": {"hold": True}},
        "tell": lambda: {"arguments": {"output": {"bytes": 4}, "progress": [[0.25, "a quarter"]]}},
        "ask": lambda: {"arguments": {"add": [{"name": "more", "agent": "backend", "run": "true"}]}},
        "resume": lambda: {"arguments": {"result_resume": True}},
        "save": lambda value, then_s: {"arguments": {"resume": value, "seconds": then_s}},
    },
}
WITH_PROCESSES = ["command", "python"]
every_driver = pytest.mark.parametrize("driver", list(DEEDS))
with_processes = pytest.mark.parametrize("driver", WITH_PROCESSES)


def test_every_driver_is_tested() -> None:
    assert set(drivers.names()) == set(DEEDS)


@every_driver
def test_success_returns_the_result(driver: str, tmp_path: Path) -> None:
    evidence = Flight(driver, brief(tmp_path, **DEEDS[driver]["give"](VALUE))).end()
    assert (evidence.finished, evidence.ok, evidence.error, evidence.stopped) == (True, True, "", None)
    assert evidence.result == VALUE


@every_driver
def test_a_failure_is_evidence_and_not_an_exception(driver: str, tmp_path: Path) -> None:
    evidence = Flight(driver, brief(tmp_path, **DEEDS[driver]["fail"]())).end()
    assert (evidence.finished, evidence.ok) == (True, False)
    assert evidence.exit_code not in (None, 0)
    assert "no such luck" in evidence.error


@every_driver
@pytest.mark.parametrize("reason", [StopReason.CANCELLED, StopReason.LEASE_LOST, StopReason.DRAINED])
def test_a_stop_ends_the_attempt_at_once_with_the_reason(driver: str, reason: StopReason, tmp_path: Path) -> None:
    flight = Flight(driver, brief(tmp_path, **DEEDS[driver]["wait"](), limits=Limits(grace_s=50)))
    if driver in WITH_PROCESSES:
        flight.ear.begun.wait(60)
    began = time.monotonic()
    flight.stop.set(reason)
    evidence = flight.end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, reason)
    assert time.monotonic() - began < 40, "it did not need the grace"
    assert not left_of(flight.brief)


@every_driver
def test_a_stop_before_the_start_takes_effect(driver: str, tmp_path: Path) -> None:
    given = brief(tmp_path, **DEEDS[driver]["wait"]())
    flight = Flight(driver, given)
    flight.stop.set(StopReason.CANCELLED)  # from nothing begun to nearly begun: wherever it falls
    assert flight.end().stopped is StopReason.CANCELLED
    assert not left_of(given)


@every_driver
def test_the_timeout_stops_the_attempt(driver: str, tmp_path: Path) -> None:
    given = brief(tmp_path, **DEEDS[driver]["wait"](), limits=Limits(timeout_s=0.5, grace_s=2))
    evidence = Flight(driver, given).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.TIMEOUT)
    assert not left_of(given)


@every_driver
def test_the_limit_of_the_agent_type_stops_the_attempt_before_its_timeout(driver: str, tmp_path: Path) -> None:
    given = brief(tmp_path, **DEEDS[driver]["wait"](), limits=Limits(timeout_s=60, longest_s=0.5, grace_s=2))
    evidence = Flight(driver, given).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.TIMEOUT)
    if driver in WITH_PROCESSES:
        assert "longer than 0.5 s, the longest that its agent type allows" in evidence.error


@with_processes
def test_the_memory_limit_counts_all_processes_of_the_attempt(driver: str, tmp_path: Path) -> None:
    given = brief(
        tmp_path,
        **DEEDS[driver]["hold"](processes=2, megabytes=90),
        limits=Limits(timeout_s=30, grace_s=2, memory_bytes=150_000_000),
    )
    evidence = Flight(driver, given).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.MEMORY)
    held = re.search(r"stopped: it used (\d+) MB of memory; its limit is 150 MB\.", evidence.error)
    assert held is not None, evidence.error
    assert 150 <= int(held[1]) < 300
    assert not left_of(given)


@with_processes
def test_an_attempt_within_its_memory_and_disk_limits_is_left_alone(driver: str, tmp_path: Path) -> None:
    given = brief(
        tmp_path,
        **DEEDS[driver]["write"](files=2, megabytes=4, then_s=1.2),
        limits=Limits(timeout_s=30, memory_bytes=150_000_000, disk_bytes=10_000_000),
        needs={"large": "x" * 5_000_000},
    )
    evidence = Flight(driver, given).end()
    assert (evidence.finished, evidence.ok, evidence.error) == (True, True, "")


@with_processes
def test_an_attempt_that_exceeds_its_disk_limit_is_stopped(driver: str, tmp_path: Path) -> None:
    given = brief(
        tmp_path,
        **DEEDS[driver]["write"](files=3, megabytes=4, then_s=600),
        limits=Limits(timeout_s=30, grace_s=2, disk_bytes=10_000_000),
    )
    evidence = Flight(driver, given).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.DISK)
    assert re.search(r"stopped: it wrote 1[23] MB to its folder; its limit is 10 MB\.", evidence.error)
    assert not left_of(given)


@with_processes
def test_an_attempt_beyond_its_disk_limit_at_its_end_fails(driver: str, tmp_path: Path) -> None:
    given = brief(
        tmp_path,
        **DEEDS[driver]["write"](files=3, megabytes=4, then_s=0),
        limits=Limits(timeout_s=30, disk_bytes=10_000_000),
    )
    evidence = Flight(driver, given).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (True, False, None)
    assert re.match(r"It wrote 1[23] MB to its folder; its limit is 10 MB\.", evidence.error)


@with_processes
def test_no_single_file_exceeds_the_disk_limit(driver: str, tmp_path: Path) -> None:
    given = brief(
        tmp_path,
        **DEEDS[driver]["write"](files=1, megabytes=300, then_s=0),
        limits=Limits(timeout_s=30, disk_bytes=10_000_000),
    )
    evidence = Flight(driver, given).end()
    assert not evidence.ok
    assert "its limit is 10 MB" in evidence.error or "its limit of 10 MB" in evidence.error
    assert max(file.stat().st_size for file in tmp_path.glob("file*")) <= 10_000_000


@every_driver
def test_output_and_progress_reach_the_reporter(driver: str, tmp_path: Path) -> None:
    ear = Ear()
    assert Flight(driver, brief(tmp_path, **DEEDS[driver]["tell"]()), ear=ear).end().ok
    assert len(ear.out.strip()) == 4
    assert ear.reports == [(0.25, "a quarter")]


@every_driver
def test_requested_sorties_are_in_the_evidence(driver: str, tmp_path: Path) -> None:
    evidence = Flight(driver, brief(tmp_path, **DEEDS[driver]["ask"]())).end()
    assert evidence.added == ({"name": "more", "agent": "backend", "run": "true"},)


@every_driver
def test_it_finds_what_an_earlier_attempt_saved(driver: str, tmp_path: Path) -> None:
    ear = Ear()
    evidence = Flight(driver, brief(tmp_path, **DEEDS[driver]["resume"](), resume=VALUE), ear=ear).end()
    assert (evidence.ok, evidence.result, ear.resumes) == (True, VALUE, [])


@every_driver
def test_the_first_attempt_finds_nothing(driver: str, tmp_path: Path) -> None:
    evidence = Flight(driver, brief(tmp_path, **DEEDS[driver]["resume"]())).end()
    assert (evidence.ok, evidence.result) == (True, None)


@every_driver
def test_what_it_saves_is_reported_while_it_runs(driver: str, tmp_path: Path) -> None:
    flight = Flight(driver, brief(tmp_path, **DEEDS[driver]["save"](VALUE, 600), resume={"earlier": True}))
    until(lambda: flight.ear.resumes, within_s=30)
    flight.stop.set(StopReason.CANCELLED)
    flight.end()
    assert flight.ear.resumes == [VALUE]


@every_driver
def test_what_it_saves_last_is_reported_when_it_ends(driver: str, tmp_path: Path) -> None:
    ear = Ear()
    assert Flight(driver, brief(tmp_path, **DEEDS[driver]["save"](VALUE, 0)), ear=ear).end().ok
    assert ear.resumes == [VALUE]


@with_processes
def test_what_it_saves_when_it_is_stopped_is_reported(driver: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    flight = Flight(driver, brief(tmp_path, **DEEDS[driver]["save_at_the_stop"](VALUE, str(ready))))
    until(ready.exists, within_s=30)
    flight.stop.set(StopReason.DRAINED)
    assert flight.end().stopped is StopReason.DRAINED
    assert flight.ear.resumes == [VALUE]


@with_processes
def test_a_value_to_resume_from_that_is_too_large_is_ignored_and_the_output_says_so_once(
    driver: str, tmp_path: Path
) -> None:
    ear = Ear()
    given = brief(tmp_path, **DEEDS[driver]["save"]("x" * 1_000, 1.2), limits=Limits(timeout_s=60, resume_bytes=1_001))
    evidence = Flight(driver, given, ear=ear).end()
    assert (evidence.ok, evidence.error, ear.resumes) == (True, "", [])
    note = ear.tails["fleet"].decode()
    assert note.count("The value to resume from (FLEET_RESUME) is not accepted") == 1
    assert "larger than 1,001 bytes" in note


@with_processes
def test_secrets_in_a_value_to_resume_from_are_redacted(driver: str, tmp_path: Path) -> None:
    ear = Ear()
    given = brief(tmp_path, **DEEDS[driver]["save"]({"a secret of mine": ["a secret of mine"]}, 0))
    given = replace(given, env={**given.env, "MINE": "a secret of mine"}, secret_env=frozenset({"MINE"}))
    assert Flight(driver, given, ear=ear).end().ok
    assert ear.resumes == [{"[redacted]": ["[redacted]"]}]


@with_processes
def test_silence_stops_the_attempt(driver: str, tmp_path: Path) -> None:
    given = brief(tmp_path, **DEEDS[driver]["wait"](), limits=Limits(silence_s=0.5, grace_s=2))
    evidence = Flight(driver, given).end()
    assert (evidence.finished, evidence.stopped) == (False, StopReason.SILENCE)
    assert "0.5 s" in evidence.error


@with_processes
def test_a_result_that_is_too_large_is_a_failure(driver: str, tmp_path: Path) -> None:
    given = brief(tmp_path, **DEEDS[driver]["large"](), limits=Limits(result_bytes=1_000))
    evidence = Flight(driver, given).end()
    assert (evidence.finished, evidence.ok, evidence.result) == (True, False, None)
    assert "larger than 1,000 bytes" in evidence.error


@with_processes
def test_no_process_remains_after_the_attempt(driver: str, tmp_path: Path) -> None:
    given = brief(tmp_path, **DEEDS[driver]["daemon"]())
    assert Flight(driver, given).end().ok
    assert not left_of(given)


@with_processes
def test_the_environment_contains_exactly_what_the_contract_names(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://fleet:secret@127.0.0.1/fleet")
    monkeypatch.setenv("ALLOWED", "seen")
    given = brief(
        tmp_path,
        **{"env": {"MINE": "too"}, **DEEDS[driver]["environment"]()},
        env_allow=frozenset({"PATH", "ALLOWED", "NOT_THERE"}),
        needs={"lint-all": {"n": 1}},
        inputs={"repository": "/some where", "depth": 3},
    )
    ear = Ear()
    evidence = Flight(driver, given, ear=ear).end()
    seen = evidence.result if driver == "python" else dict(line.split("=", 1) for line in ear.out.splitlines())
    assert isinstance(seen, dict)
    fleet = {"ATTEMPT", "TRY", "HOME_ID", "RESULT", "SORTIES", "PROGRESS", "RESUME", "NEEDS", "INPUTS", "SCRATCH"}
    fleet |= {"NEEDS_INDEX", "NEED_STATES"}
    of_shell_and_python = {"PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}
    assert seen.keys() - of_shell_and_python == {"PATH", "ALLOWED", "MINE", "HOME", "TMPDIR"} | {
        f"FLEET_{name}" for name in fleet
    } | {
        "FLEET_NEED_LINT_ALL",
        "FLEET_INPUT_REPOSITORY",
        "FLEET_INPUT_DEPTH",
    }
    assert (seen["FLEET_ATTEMPT"], seen["FLEET_TRY"]) == (given.marker, "1")
    assert seen["FLEET_NEED_LINT_ALL"] == '{"n": 1}'
    assert (seen["FLEET_INPUT_REPOSITORY"], seen["FLEET_INPUT_DEPTH"]) == ("/some where", "3")


@with_processes
@pytest.mark.parametrize("code", [0, 3])
def test_the_lease_token_is_in_the_environment_and_masked_in_all_output(driver: str, code: int, tmp_path: Path) -> None:
    token = f"{ids.encode(ids.SORTIE, ids.new())}.1.{secrets.token_urlsafe(24)}"
    given = brief(
        tmp_path, **{**DEEDS[driver]["show_token"](), "env": {"CODE": str(code)}}, api="http://here/api/v1", token=token
    )
    ear = Ear()
    evidence = Flight(driver, given, ear=ear).end()
    said, left = str((evidence, ear.tails, ear.reports, given)), f"{token.rpartition('.')[0]}.[redacted]"
    assert hashlib.sha256(token.encode()).hexdigest() in ear.out
    assert token.rpartition(".")[2] not in said
    assert ear.out.splitlines()[-1] == ear.tails["stderr"].decode().splitlines()[0] == left
    assert ear.reports == [(0.5, left)]
    assert evidence.ok == (code == 0)
    assert str(evidence.error if code else evidence.result).endswith(left)


@with_processes
def test_the_lease_token_is_in_no_command_line_or_file(driver: str, tmp_path: Path) -> None:
    given = brief(tmp_path, **DEEDS[driver]["wait"](), api="http://here/api/v1", token="srt_x.1.Secret-" + "0" * 25)
    flight = Flight(driver, given)
    flight.ear.begun.wait(60)
    until(lambda: len(left_of(given)) >= 2)
    words = [word for pid in left_of(given) for word in psutil.Process(pid).cmdline()]
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    flight.stop.set(StopReason.CANCELLED)
    flight.end()
    assert len(words) > 5
    assert files
    assert "Secret-" not in str((words, files))


@with_processes
def test_resource_usage_is_measured(driver: str, tmp_path: Path) -> None:
    evidence = Flight(driver, brief(tmp_path, **DEEDS[driver]["give"](1))).end()
    assert evidence.cpu_s is not None
    assert evidence.cpu_s > 0
    assert evidence.max_rss_bytes is not None
    assert evidence.max_rss_bytes > 1_000_000


@with_processes
def test_a_reporter_that_raises_ends_the_attempt_and_its_processes(driver: str, tmp_path: Path) -> None:
    class Deaf(Ear):
        def output(self, **_: Any) -> None:
            raise ConnectionError("the page cannot be written")

    given = brief(tmp_path, **DEEDS[driver]["tell"]())
    with pytest.raises(ConnectionError):
        Flight(driver, given, ear=Deaf()).end()
    assert not left_of(given)


@with_processes
def test_a_signal_from_another_process_is_not_reported_as_a_stop_by_the_engine(driver: str, tmp_path: Path) -> None:
    flight = Flight(driver, brief(tmp_path, **DEEDS[driver]["wait"]()))
    flight.ear.begun.wait(60)
    until(lambda: any(not reaper.is_shim(pid) for pid in left_of(flight.brief)))  # the work has begun: the shim listens
    os.kill(flight.ear.pid, signal.SIGTERM)
    evidence = flight.end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, None)
    assert not left_of(flight.brief)
