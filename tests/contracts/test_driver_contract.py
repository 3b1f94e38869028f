"""What every driver must do. A new driver adds its workloads to `WORKLOADS`, and must pass all of these tests."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from agents import drivers
from agents.confinement.attempt_limits import Limits, StopReason
from agents.drivers import reaper
from fleet import ids
from tests.contracts.workloads import WITH_PROCESSES, WORKLOADS, every_driver, with_processes
from tests.support.waiting import until
from tests.support.work.driver_runs import DriverRun, RecordingReporter, brief, surviving_processes

VALUE = {"a": [1, 2.5, None, "ü"]}


def test_every_driver_is_tested() -> None:
    assert set(drivers.names()) == set(WORKLOADS)


@every_driver
def test_success_returns_the_result(driver: str, tmp_path: Path) -> None:
    evidence = DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["succeed"](VALUE))).end()
    assert (evidence.finished, evidence.ok, evidence.error, evidence.stopped) == (True, True, "", None)
    assert evidence.result == VALUE


@every_driver
def test_a_failure_is_evidence_and_not_an_exception(driver: str, tmp_path: Path) -> None:
    evidence = DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["fail"]())).end()
    assert (evidence.finished, evidence.ok) == (True, False)
    assert evidence.exit_code not in (None, 0)
    assert "no such luck" in evidence.error


@every_driver
@pytest.mark.parametrize("reason", [StopReason.CANCELLED, StopReason.LEASE_LOST, StopReason.DRAINED])
def test_a_stop_ends_the_attempt_at_once_with_the_reason(driver: str, reason: StopReason, tmp_path: Path) -> None:
    run = DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["wait"](), limits=Limits(grace_s=50)))
    if driver in WITH_PROCESSES:
        run.reporter.has_started.wait(60)
    start = time.monotonic()
    run.stop.set(reason)
    evidence = run.end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, reason)
    assert time.monotonic() - start < 40, "it did not use the grace period"
    assert not surviving_processes(run.brief)


@every_driver
def test_a_stop_before_the_start_takes_effect(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, **WORKLOADS[driver]["wait"]())
    run = DriverRun(driver, attempt_brief)
    run.stop.set(StopReason.CANCELLED)  # at any moment of the start
    assert run.end().stopped is StopReason.CANCELLED
    assert not surviving_processes(attempt_brief)


@every_driver
def test_the_timeout_stops_the_attempt(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, **WORKLOADS[driver]["wait"](), limits=Limits(timeout_s=0.5, grace_s=2))
    evidence = DriverRun(driver, attempt_brief).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.TIMEOUT)
    assert not surviving_processes(attempt_brief)


@every_driver
def test_the_limit_of_the_agent_type_stops_the_attempt_before_its_timeout(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path, **WORKLOADS[driver]["wait"](), limits=Limits(timeout_s=60, max_duration_s=0.5, grace_s=2)
    )
    evidence = DriverRun(driver, attempt_brief).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.TIMEOUT)
    if driver in WITH_PROCESSES:
        assert "longer than 0.5 s, the longest that its agent type allows" in evidence.error


@with_processes
def test_the_memory_limit_counts_all_processes_of_the_attempt(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path,
        **WORKLOADS[driver]["hold_memory"](processes=2, megabytes=90),
        limits=Limits(timeout_s=30, grace_s=2, memory_bytes=150_000_000),
    )
    evidence = DriverRun(driver, attempt_brief).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.MEMORY)
    values = re.search(r"stopped: it used (\d+) MB of memory; its limit is 150 MB\.", evidence.error)
    assert values is not None, evidence.error
    assert 150 <= int(values[1]) < 300
    assert not surviving_processes(attempt_brief)


@with_processes
def test_an_attempt_within_its_memory_and_disk_limits_is_left_alone(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path,
        **WORKLOADS[driver]["write_files"](files=2, megabytes=4, then_s=1.2),
        limits=Limits(timeout_s=30, memory_bytes=150_000_000, disk_bytes=10_000_000),
        needs={"large": "x" * 5_000_000},
    )
    evidence = DriverRun(driver, attempt_brief).end()
    assert (evidence.finished, evidence.ok, evidence.error) == (True, True, "")


@with_processes
def test_an_attempt_that_exceeds_its_disk_limit_is_stopped(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path,
        **WORKLOADS[driver]["write_files"](files=3, megabytes=4, then_s=600),
        limits=Limits(timeout_s=30, grace_s=2, disk_bytes=10_000_000),
    )
    evidence = DriverRun(driver, attempt_brief).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, StopReason.DISK)
    assert re.search(r"stopped: it wrote 1[23] MB to its folder; its limit is 10 MB\.", evidence.error)
    assert not surviving_processes(attempt_brief)


@with_processes
def test_an_attempt_beyond_its_disk_limit_at_its_end_fails(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path,
        **WORKLOADS[driver]["write_files"](files=3, megabytes=4, then_s=0),
        limits=Limits(timeout_s=30, disk_bytes=10_000_000),
    )
    evidence = DriverRun(driver, attempt_brief).end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (True, False, None)
    assert re.match(r"It wrote 1[23] MB to its folder; its limit is 10 MB\.", evidence.error)


@with_processes
def test_no_single_file_exceeds_the_disk_limit(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path,
        **WORKLOADS[driver]["write_files"](files=1, megabytes=300, then_s=0),
        limits=Limits(timeout_s=30, disk_bytes=10_000_000),
    )
    evidence = DriverRun(driver, attempt_brief).end()
    assert not evidence.ok
    assert "its limit is 10 MB" in evidence.error or "its limit of 10 MB" in evidence.error
    assert max(file.stat().st_size for file in tmp_path.glob("file*")) <= 10_000_000


@every_driver
def test_output_and_progress_reach_the_reporter(driver: str, tmp_path: Path) -> None:
    reporter = RecordingReporter()
    assert DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["report"]()), reporter=reporter).end().ok
    assert len(reporter.out.strip()) == 4
    assert reporter.reports == [(0.25, "a quarter")]


@every_driver
def test_requested_sorties_are_in_the_evidence(driver: str, tmp_path: Path) -> None:
    evidence = DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["add_sortie"]())).end()
    assert evidence.added == ({"name": "more", "agent": "backend", "run": "true"},)


@every_driver
def test_it_finds_what_an_earlier_attempt_saved(driver: str, tmp_path: Path) -> None:
    reporter = RecordingReporter()
    evidence = DriverRun(
        driver, brief(tmp_path, **WORKLOADS[driver]["return_resume"](), resume=VALUE), reporter=reporter
    ).end()
    assert (evidence.ok, evidence.result, reporter.resumes) == (True, VALUE, [])


@every_driver
def test_the_first_attempt_finds_nothing(driver: str, tmp_path: Path) -> None:
    evidence = DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["return_resume"]())).end()
    assert (evidence.ok, evidence.result) == (True, None)


@every_driver
def test_what_it_saves_is_reported_while_it_runs(driver: str, tmp_path: Path) -> None:
    run = DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["save_resume"](VALUE, 600), resume={"earlier": True}))
    until(lambda: run.reporter.resumes)
    run.stop.set(StopReason.CANCELLED)
    run.end()
    assert run.reporter.resumes == [VALUE]


@every_driver
def test_what_it_saves_last_is_reported_when_it_ends(driver: str, tmp_path: Path) -> None:
    reporter = RecordingReporter()
    assert DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["save_resume"](VALUE, 0)), reporter=reporter).end().ok
    assert reporter.resumes == [VALUE]


@with_processes
def test_what_it_saves_when_it_is_stopped_is_reported(driver: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    run = DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["save_resume_when_stopped"](VALUE, str(ready))))
    until(ready.exists)
    run.stop.set(StopReason.DRAINED)
    assert run.end().stopped is StopReason.DRAINED
    assert run.reporter.resumes == [VALUE]


@with_processes
def test_a_value_to_resume_from_that_is_too_large_is_ignored_and_the_output_says_so_once(
    driver: str, tmp_path: Path
) -> None:
    reporter = RecordingReporter()
    attempt_brief = brief(
        tmp_path, **WORKLOADS[driver]["save_resume"]("x" * 1_000, 1.2), limits=Limits(timeout_s=60, resume_bytes=1_001)
    )
    evidence = DriverRun(driver, attempt_brief, reporter=reporter).end()
    assert (evidence.ok, evidence.error, reporter.resumes) == (True, "", [])
    note = reporter.tails["fleet"].decode()
    assert note.count("The value to resume from (FLEET_RESUME) is not accepted") == 1
    assert "larger than 1,001 bytes" in note


@with_processes
def test_secrets_in_a_value_to_resume_from_are_redacted(driver: str, tmp_path: Path) -> None:
    reporter = RecordingReporter()
    attempt_brief = brief(tmp_path, **WORKLOADS[driver]["save_resume"]({"a secret of mine": ["a secret of mine"]}, 0))
    attempt_brief = replace(
        attempt_brief, env={**attempt_brief.env, "MINE": "a secret of mine"}, secret_env=frozenset({"MINE"})
    )
    assert DriverRun(driver, attempt_brief, reporter=reporter).end().ok
    assert reporter.resumes == [{"[redacted]": ["[redacted]"]}]


@with_processes
def test_silence_stops_the_attempt(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, **WORKLOADS[driver]["wait"](), limits=Limits(silence_s=0.5, grace_s=2))
    evidence = DriverRun(driver, attempt_brief).end()
    assert (evidence.finished, evidence.stopped) == (False, StopReason.SILENCE)
    assert "0.5 s" in evidence.error


@with_processes
def test_a_result_that_is_too_large_is_a_failure(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, **WORKLOADS[driver]["large_result"](), limits=Limits(result_bytes=1_000))
    evidence = DriverRun(driver, attempt_brief).end()
    assert (evidence.finished, evidence.ok, evidence.result) == (True, False, None)
    assert "larger than 1,000 bytes" in evidence.error


@with_processes
def test_no_process_remains_after_the_attempt(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(tmp_path, **WORKLOADS[driver]["leave_a_daemon"]())
    assert DriverRun(driver, attempt_brief).end().ok
    assert not surviving_processes(attempt_brief)


@with_processes
def test_the_environment_contains_exactly_what_the_contract_names(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://fleet:secret@127.0.0.1/fleet")
    monkeypatch.setenv("ALLOWED", "seen")
    attempt_brief = brief(
        tmp_path,
        **{"env": {"MINE": "too"}, **WORKLOADS[driver]["print_environment"]()},
        env_allow=frozenset({"PATH", "ALLOWED", "NOT_THERE"}),
        needs={"lint-all": {"n": 1}},
        inputs={"repository": "/some where", "depth": 3},
    )
    reporter = RecordingReporter()
    evidence = DriverRun(driver, attempt_brief, reporter=reporter).end()
    environment = (
        evidence.result if driver == "python" else dict(line.split("=", 1) for line in reporter.out.splitlines())
    )
    assert isinstance(environment, dict)
    fleet = {"ATTEMPT", "TRY", "HOME_ID", "RESULT", "SORTIES", "PROGRESS", "RESUME", "NEEDS", "INPUTS", "SCRATCH"}
    fleet |= {"NEEDS_INDEX", "NEED_STATES"}
    of_shell_and_python = {"PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}
    assert environment.keys() - of_shell_and_python == {"PATH", "ALLOWED", "MINE", "HOME", "TMPDIR"} | {
        f"FLEET_{name}" for name in fleet
    } | {
        "FLEET_NEED_LINT_ALL",
        "FLEET_INPUT_REPOSITORY",
        "FLEET_INPUT_DEPTH",
    }
    assert (environment["FLEET_ATTEMPT"], environment["FLEET_TRY"]) == (attempt_brief.marker, "1")
    assert environment["FLEET_NEED_LINT_ALL"] == '{"n": 1}'
    assert (environment["FLEET_INPUT_REPOSITORY"], environment["FLEET_INPUT_DEPTH"]) == ("/some where", "3")


@with_processes
@pytest.mark.parametrize("code", [0, 3])
def test_the_lease_token_is_in_the_environment_and_masked_in_all_output(driver: str, code: int, tmp_path: Path) -> None:
    token = f"{ids.encode(ids.SORTIE, ids.new())}.1.{secrets.token_urlsafe(24)}"
    attempt_brief = brief(
        tmp_path,
        **{**WORKLOADS[driver]["show_token"](), "env": {"CODE": str(code)}},
        api="http://here/api/v1",
        token=token,
    )
    reporter = RecordingReporter()
    evidence = DriverRun(driver, attempt_brief, reporter=reporter).end()
    text, masked_token = (
        str((evidence, reporter.tails, reporter.reports, attempt_brief)),
        f"{token.rpartition('.')[0]}.[redacted]",
    )
    assert hashlib.sha256(token.encode()).hexdigest() in reporter.out
    assert token.rpartition(".")[2] not in text
    assert reporter.out.splitlines()[-1] == reporter.tails["stderr"].decode().splitlines()[0] == masked_token
    assert reporter.reports == [(0.5, masked_token)]
    assert evidence.ok == (code == 0)
    assert str(evidence.error if code else evidence.result).endswith(masked_token)


@with_processes
def test_the_lease_token_is_in_no_command_line_or_file(driver: str, tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path, **WORKLOADS[driver]["wait"](), api="http://here/api/v1", token="srt_x.1.Secret-" + "0" * 25
    )
    run = DriverRun(driver, attempt_brief)
    run.reporter.has_started.wait(60)
    until(lambda: len(surviving_processes(attempt_brief)) >= 2)
    words = [word for pid in surviving_processes(attempt_brief) for word in psutil.Process(pid).cmdline()]
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    run.stop.set(StopReason.CANCELLED)
    run.end()
    assert len(words) > 5
    assert files
    assert "Secret-" not in str((words, files))


@with_processes
def test_resource_usage_is_measured(driver: str, tmp_path: Path) -> None:
    evidence = DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["succeed"](1))).end()
    assert evidence.cpu_s is not None
    assert evidence.cpu_s > 0
    assert evidence.max_rss_bytes is not None
    assert evidence.max_rss_bytes > 1_000_000


@with_processes
def test_a_reporter_that_raises_ends_the_attempt_and_its_processes(driver: str, tmp_path: Path) -> None:
    class FailingReporter(RecordingReporter):
        def output(self, **_: Any) -> None:
            raise ConnectionError("the page cannot be written")

    attempt_brief = brief(tmp_path, **WORKLOADS[driver]["report"]())
    with pytest.raises(ConnectionError):
        DriverRun(driver, attempt_brief, reporter=FailingReporter()).end()
    assert not surviving_processes(attempt_brief)


@with_processes
def test_a_signal_from_another_process_is_not_reported_as_a_stop_by_the_engine(driver: str, tmp_path: Path) -> None:
    run = DriverRun(driver, brief(tmp_path, **WORKLOADS[driver]["wait"]()))
    run.reporter.has_started.wait(60)
    until(
        lambda: any(not reaper.is_shim(pid) for pid in surviving_processes(run.brief))
    )  # the work has started, so the shim listens
    os.kill(run.reporter.pid, signal.SIGTERM)
    evidence = run.end()
    assert (evidence.finished, evidence.ok, evidence.stopped) == (False, False, None)
    assert not surviving_processes(run.brief)
