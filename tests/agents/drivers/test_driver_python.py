"""What is specific to the python driver."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from agents.confinement.attempt_limits import Limits, StopReason
from tests.support.waiting import until
from tests.support.work.driver_runs import DriverRun, RecordingReporter, brief, surviving_processes

HERE = "tests.contracts.callables"


@pytest.mark.parametrize(
    "call, arguments, error",
    [
        ("fail", {"text": "bad luck"}, "RuntimeError: bad luck"),
        ("fail", {}, "The callable 'tests.contracts.callables:fail' does not take these arguments"),
        ("return_a_set", {}, "The callable's result is not JSON"),
        ("exit_with", {"code": 4}, "The callable ended its process: SystemExit(4)."),
        ("unregistered", {}, f"There is no callable '{HERE}:unregistered'"),
        ("nonesuch", {}, f"There is no callable '{HERE}:nonesuch'"),
    ],
)
def test_a_failure_is_explained_in_one_sentence(
    call: str, arguments: dict[str, object], error: str, tmp_path: Path
) -> None:
    evidence = DriverRun("python", brief(tmp_path, call=f"{HERE}:{call}", arguments=arguments)).end()
    assert (evidence.finished, evidence.ok) == (True, False)
    assert evidence.error.startswith(error)


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    evidence = DriverRun("python", brief(tmp_path, call="no_such_module:work")).end()
    assert evidence.error == (
        "The module of the callable 'no_such_module:work' cannot be imported: No module named 'no_such_module'. "
        "Install its requirements."
    )


def test_the_traceback_is_output(tmp_path: Path) -> None:
    reporter = RecordingReporter()
    DriverRun("python", brief(tmp_path, call=f"{HERE}:fail", arguments={"text": "bad luck"}), reporter=reporter).end()
    assert b"Traceback" in reporter.tails["stderr"]
    assert b"callables.py" in reporter.tails["stderr"]


def test_exit_code_zero_is_success_without_a_result(tmp_path: Path) -> None:
    evidence = DriverRun("python", brief(tmp_path, call=f"{HERE}:exit_with", arguments={"code": 0})).end()
    assert (evidence.ok, evidence.result) == (True, None)


def test_the_context_holds_needs_and_inputs_of_any_size(tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path, call=f"{HERE}:describe_context", needs={"a": "x" * 200_000, "b": [1, {"c": None}]}, inputs={"d": "é"}
    )
    evidence = DriverRun("python", attempt_brief).end()
    assert evidence.result == {"needs": attempt_brief.needs, "inputs": attempt_brief.inputs, "scratch": str(tmp_path)}


def test_a_stopped_callable_may_clean_up_within_the_grace_period(tmp_path: Path) -> None:
    ready, cleaned_up = tmp_path / "ready", tmp_path / "cleaned up"
    arguments = {"ready": str(ready), "cleaned_up": str(cleaned_up)}
    run = DriverRun("python", brief(tmp_path, call=f"{HERE}:clean_up_when_stopped", arguments=arguments))
    until(ready.exists)
    run.stop.set(StopReason.DRAINED)
    assert run.end().stopped is StopReason.DRAINED
    assert cleaned_up.exists()
    assert not surviving_processes(run.brief)


def test_it_needs_neither_settings_nor_the_checkout_as_its_folder(tmp_path: Path) -> None:
    elsewhere = tmp_path / "json"  # its name must not shadow the module
    elsewhere.mkdir()
    (elsewhere / "fleet.py").write_text("raise SystemExit('shadowed')")
    attempt_brief = brief(
        tmp_path,
        call=f"{HERE}:return_value",
        arguments={"value": 1},
        cwd=elsewhere,
        limits=Limits(timeout_s=30),
        env_allow=frozenset(),
    )
    assert DriverRun("python", attempt_brief).end().result == 1


@pytest.mark.parametrize("fail", [False, True])
def test_a_secret_is_hidden_in_everything_that_a_callable_reports(fail: bool, tmp_path: Path) -> None:
    secret = 'with "quotes" and ünï/codes'
    attempt_brief = brief(
        tmp_path,
        call=f"{HERE}:show_variable",
        arguments={"name": "MINE", "fail": fail},
        env={"MINE": secret},
        secret_env=frozenset({"MINE"}),
    )
    reporter = RecordingReporter()
    evidence = DriverRun("python", attempt_brief, reporter=reporter).end()
    output = str((evidence, reporter.tails, reporter.reports)) + reporter.out
    assert secret not in output
    assert base64.b64encode(b"user:" + secret.encode()).decode()[8:-4] not in output
    assert reporter.reports == [(0.5, "[redacted]")]
    if fail:
        assert evidence.error == "RuntimeError: [redacted]"
    else:
        assert evidence.result == {"[redacted]": ["[redacted]"]}
        assert evidence.added == ({"name": "next", "agent": "backend", "run": ["echo", "[redacted]"]},)


@pytest.mark.parametrize(
    "call, arguments, permanent, words",
    [
        ("no_such_module:work", {}, True, "cannot be imported"),
        (f"{HERE}:no_such_callable", {}, True, "There is no callable"),
        (
            f"{HERE}:fail",
            {"txt": "no luck"},
            True,
            "does not take these arguments (`with`): missing a required argument: 'text'",
        ),
        (f"{HERE}:fail", {"text": "no luck"}, False, "no luck"),
    ],
)
def test_permanent_errors_are_distinguished_from_others(
    call: str, arguments: dict[str, Any], permanent: bool, words: str, tmp_path: Path
) -> None:
    evidence = DriverRun("python", brief(tmp_path, call=call, arguments=arguments)).end()
    assert (evidence.ok, evidence.permanent) == (False, permanent)
    assert words in evidence.error
