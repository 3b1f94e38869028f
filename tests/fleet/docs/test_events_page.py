"""docs/events.md lists exactly the kinds of events that the code writes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from agents.models import Agent
from missions.models import Tick
from missions.states import MissionState, SortieState
from tests.support.paths import CHECKOUT

APPS = ("fleet", "agents", "missions", "checkpoints")
KIND = re.compile(r"(sortie|mission|schedule|agent|node|service|alert|checkpoint)\.([a-z_]+)")
# Events of these nouns are written for every state that the object enters: 'sortie.' || state, f"mission.{to}".
BY_STATE = {
    "sortie": {f"sortie.{state}" for state in SortieState},
    "mission": {f"mission.{state}" for state in MissionState},
    "schedule": {
        *(f"schedule.{outcome}" for outcome in Tick.Outcome),
        *(f"schedule.{change}" for change in ("created", "changed", "paused", "resumed", "deleted")),
    },
    "agent": {f"agent.{state}" for state in (Agent.State.TERMINATED, Agent.State.LOST, Agent.State.FAILED)},
}


def files(suffix: str) -> Iterator[tuple[Path, str]]:
    for app in APPS:
        for path in (CHECKOUT / app).rglob(f"*{suffix}"):
            if "migrations" not in path.parts:
                yield path, path.read_text()


def kinds_in_sql(text: str) -> set[str]:
    """The kinds in the statements of a text that insert events."""
    found: set[str] = set()
    for statement in re.findall(r"INSERT INTO fleet_event.*?(?:FROM|\Z)(?:.*?UNION ALL.*)?", text, re.DOTALL):
        found.update(match[0] for match in KIND.finditer(statement) if f"'{match[0]}'" in statement)
        for noun in re.findall(r"'(\w+)\.' \|\|", statement):
            found |= BY_STATE[noun]
    return found


def kinds_in_python(tree: ast.Module) -> set[str]:
    """The kinds that are passed to Event(…) and Event.objects.create(…), or to the supervisor's journal."""
    found: set[str] = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        constants = {node.value for node in ast.walk(function) if isinstance(node, ast.Constant)}
        for call in ast.walk(function):
            if not isinstance(call, ast.Call) or not re.match(r"Event(\.objects\.create)?$", ast.unparse(call.func)):
                continue
            for value in (keyword.value for keyword in call.keywords if keyword.arg == "kind"):
                if isinstance(value, ast.Constant):
                    found.add(str(value.value))
                elif isinstance(value, ast.JoinedStr):
                    noun = value.values[0]
                    assert isinstance(noun, ast.Constant)
                    found |= BY_STATE[str(noun.value).removesuffix(".")]
                elif isinstance(value, ast.Name):  # the kinds that this function chooses from
                    found |= {text for text in constants if isinstance(text, str) and KIND.fullmatch(text)}
    return found


def kinds_in_code() -> set[str]:
    found = {"service." + name for _, text in files(".py") for name in re.findall(r'"service\.([a-z_]+)"', text)}
    for _, text in files(".sql"):
        found |= kinds_in_sql(text)
    for path, text in files(".py"):
        found |= kinds_in_python(ast.parse(text))
        if "INSERT INTO fleet_event" in text and path.name != "__init__.py":
            found |= kinds_in_sql(text)
    return found


def test_every_kind_is_documented_and_every_documented_kind_exists() -> None:
    page = (CHECKOUT / "docs" / "events.md").read_text()
    rows = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| \S", page, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == kinds_in_code()


def test_kinds_are_found_in_every_form_in_which_code_writes_them() -> None:
    assert kinds_in_sql("INSERT INTO fleet_event (kind) SELECT 'sortie.queued', id FROM x") == {"sortie.queued"}
    assert kinds_in_sql("INSERT INTO fleet_event (kind) SELECT 'agent.' || state FROM x") == BY_STATE["agent"]
    assert kinds_in_sql("SELECT 'sortie.queued' FROM fleet_event") == set()
    source = "def f(on):\n    kind = 'node.a' if on else 'node.b'\n    Event.objects.create(kind=kind)\n    Event(kind='node.c')"
    assert kinds_in_python(ast.parse(source)) == {"node.a", "node.b", "node.c"}
    assert kinds_in_python(ast.parse('def f(to):\n    Event(kind=f"mission.{to}")')) == BY_STATE["mission"]
