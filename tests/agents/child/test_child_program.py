"""The child process of the python driver: what it reads, calls and writes, whatever the callable does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agents.child
from tests.support.processes import child_coverage
from tests.support.waiting import until

PROGRAM = str(Path(agents.child.__file__).with_name("__main__.py"))
CALLABLES = """
import os, sys, time
from pathlib import Path
from agents.callables import register
from fleet import errors

@register
def give(context, value=None): return value

@register
def describe(context): return [list(context.needs), len(context.needs), context.inputs, context.resume, str(context.scratch)]

@register
def need(context, name): return context.needs[name]

@register
def endless(context):
    value = []
    value.append(value)
    return value

@register
def odd(context): return {1: object()}

@register
def add(context, **keys): context.add(**keys)

@register
def add_no_json(context): context.add(name="more", agent="backend", env={"A": {1}})

@register
def save(context, value): context.save_resume(value)

@register
def report(context, fraction, note): context.progress(fraction, note)

@register
def refuse(context): raise errors.Invalid("The file has no header.", hint="Add one.")

@register
def surrogate(context): raise RuntimeError("odd \\udcff name " + "x" * 10_000)

@register
def leave(context, code): sys.exit(code)

@register
def read(context): return sys.stdin.read()

@register
def clean_up(context):
    try:
        Path("ready").touch()
        time.sleep(600)
    finally:
        Path("cleaned up").touch()

class Signatureless:
    __signature__ = "none"
    def __call__(self, context, **arguments): return sorted(arguments)

work = Signatureless()
work.__module__, work.__qualname__ = __name__, "work"
register(work)
"""


class Child:
    """Runs the program with a folder like that of an attempt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"FLEET_SCRATCH": str(folder), "FLEET_RESUME": str(folder / "resume"), "PYTHONPATH": str(folder)}
        (folder / "mine.py").write_text(CALLABLES)
        (folder / "inputs.json").write_text('{"size": 3}')
        (folder / "needs").mkdir()
        (folder / "needs.json").write_text("{}")

    def start(self, call: str, arguments: dict[str, Any]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", PROGRAM, str(self.folder)],
            cwd=self.folder,
            env={**child_coverage.environment(), **self.env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"call": call, "arguments": arguments}))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, name: str, /, **arguments: Any) -> tuple[int, str]:
        """Its exit code, and what it wrote to standard error."""
        process = self.start(f"mine:{name}", arguments)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def read(self, name: str) -> Any:
        path = self.folder / name
        return json.loads(path.read_text()) if path.exists() else None

    def failure(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """What it wrote about its failure. A failed callable has no result."""
        code, _ = self.run(name, **arguments)
        assert code == 1
        assert not (self.folder / "result.json").exists()
        return dict(self.read("error.json"))


@pytest.fixture
def child(tmp_path: Path) -> Child:
    return Child(tmp_path)


def test_a_result_and_the_sorties_to_add_are_written(child: Child) -> None:
    assert child.run("give", value={"a": [1, None, "é"]}) == (0, "")
    assert (child.read("result.json"), child.read("sorties.json")) == ({"a": [1, None, "é"]}, [])
    assert child.run("add", name="more", agent="backend", run=["true"]) == (0, "")
    assert child.read("sorties.json") == [{"name": "more", "agent": "backend", "run": ["true"]}]
    assert child.read("error.json") is None


def test_the_context_describes_the_attempt(child: Child) -> None:
    (child.folder / "needs.json").write_text('{"first": "0", "second": "1"}')
    (child.folder / "resume").write_text('{"page": 7}')
    assert child.run("describe") == (0, "")
    assert child.read("result.json") == [["first", "second"], 2, {"size": 3}, {"page": 7}, str(child.folder)]


def test_a_result_of_a_need_is_read_only_when_it_is_used(child: Child) -> None:
    (child.folder / "needs.json").write_text('{"first": "0", "unused": "1"}')
    (child.folder / "needs" / "0").write_text("[1]")  # that of the other one does not even exist
    assert child.run("need", name="first") == (0, "")
    assert child.read("result.json") == [1]


def test_a_need_that_does_not_exist_is_named(child: Child) -> None:
    assert child.failure("need", name="third") == {"error": "KeyError: 'third'", "permanent": False}


def test_a_result_that_contains_itself_is_refused(child: Child) -> None:
    failure = child.failure("endless")
    assert failure["permanent"]
    assert failure["error"].startswith("The callable's result is not JSON: ")


def test_a_result_with_an_odd_value_and_a_sortie_that_is_no_json_are_refused(child: Child) -> None:
    odd, sortie = child.failure("odd"), child.failure("add_no_json")
    assert odd["error"].startswith("The callable's result is not JSON: ")
    assert odd["error"].endswith("Return only None, booleans, numbers, strings, lists and dicts.")
    assert sortie["error"].startswith("A sortie to add is not JSON: ")
    assert odd["permanent"]
    assert sortie["permanent"]


def test_a_saved_value_replaces_the_earlier_one(child: Child) -> None:
    for value in ({"page": 1}, "ü\udcff"):
        assert child.run("save", value=value) == (0, "")
    assert (child.folder / "resume").read_bytes() == '"ü\udcff"'.encode("utf-8", "surrogatepass")
    assert not list(child.folder.glob("resume.*"))


@pytest.mark.parametrize(
    "fraction, note, line", [(0.5, "half\ndone", "0.5000 half done\n"), (None, "x" * 400, f"{'x' * 300}\n")]
)
def test_progress_is_one_short_line(child: Child, fraction: float | None, note: str, line: str) -> None:
    child.env["FLEET_PROGRESS"] = str(child.folder / "progress")
    assert child.run("report", fraction=fraction, note=note) == (0, "")
    assert (child.folder / "progress").read_text() == line


def test_an_error_of_the_fleet_is_reported_as_its_sentence_without_a_traceback(child: Child) -> None:
    code, stderr = child.run("refuse")
    assert (code, stderr) == (1, "")
    assert child.read("error.json") == {"error": "The file has no header. Add one.", "permanent": False}


def test_an_error_with_any_text_is_reported_within_a_limit(child: Child) -> None:
    failure = child.failure("surrogate")
    assert failure["error"].startswith("RuntimeError: odd ? name xxx")
    assert len(failure["error"]) == 4_000


@pytest.mark.parametrize("code, failure", [(0, None), (None, None), (3, "SystemExit(3)"), ("bye", "SystemExit('bye')")])
def test_a_callable_that_exits_has_no_result_and_succeeds_only_with_exit_code_0(
    child: Child, code: Any, failure: str | None
) -> None:
    assert child.run("leave", code=code)[0] == (0 if failure is None else 1)
    assert child.read("result.json") is None
    assert failure is None or f"ended its process: {failure}." in child.read("error.json")["error"]


def test_a_callable_whose_signature_is_unknown_is_called(child: Child) -> None:
    assert child.run("work", b=1, a=2) == (0, "")
    assert child.read("result.json") == ["a", "b"]


@pytest.mark.parametrize(
    "call, arguments, words",
    [
        ("nowhere:work", {}, "The module of the callable 'nowhere:work' cannot be imported"),
        ("mine:nothing", {}, "There is no callable 'mine:nothing'"),
        ("mine:need", {"nam": "x"}, "The callable 'mine:need' does not take these arguments (`with`)"),
    ],
)
def test_what_a_retry_would_repeat_is_permanent(child: Child, call: str, arguments: dict[str, Any], words: str) -> None:
    process = child.start(call, arguments)
    process.communicate(timeout=60)
    assert process.returncode == 1
    failure = child.read("error.json")
    assert failure["permanent"]
    assert failure["error"].startswith(words)


def test_the_request_is_not_left_on_standard_input(child: Child) -> None:
    assert child.run("read") == (0, "")
    assert child.read("result.json") == ""


@pytest.fixture
def waiting(child: Child) -> Iterator[subprocess.Popen[str]]:
    process = child.start("mine:clean_up", {})
    until((child.folder / "ready").exists)
    yield process
    process.kill()
    process.communicate()


def test_a_stopped_callable_cleans_up_and_says_why_it_ended(child: Child, waiting: subprocess.Popen[str]) -> None:
    os.kill(waiting.pid, signal.SIGTERM)
    assert waiting.wait(60) == 1
    assert (child.folder / "cleaned up").exists()
    assert "SystemExit(143)" in child.read("error.json")["error"]
