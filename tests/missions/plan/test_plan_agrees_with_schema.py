"""The validator refuses whatever the published schema refuses, with the line and a fix."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import missions.plan
from missions import plan
from tests.missions.plan.plans import CONTEXT, load, problems

SCHEMA = json.loads((Path(missions.plan.__file__).parent / "document" / "schema.json").read_text())
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)

WHOLE: dict[str, Any] = {
    "mission": "M",
    "objective": "Words",
    "on_failure": "stop",
    "priority": 3,
    "inputs": {"top": {"type": "integer", "default": 3, "enum": [3, 4], "description": "x"}, "who": {"required": True}},
    "defaults": {"timeout": "10m", "retry": {"max_attempts": 2}, "env": {"A": "b"}, "cwd": "."},
    "sorties": {
        "a": {"agent": "testing", "run": ["x", 1], "outputs": ["o"], "retry": {"backoff": "1s", "jitter": False}},
        "b": {
            "agent": "testing", "needs": ["a"], "run": "x", "concurrency": {"key": "k", "limit": 2}, "if": "always",
            "matrix": {"v": ["1", 2], "include": [{"v": "3"}], "exclude": [{"v": 2}]}, "silence": 5, "allow_failure": True,
            "alert_silence": "1m",
        },
        "c": {"agent": "backend", "prompt": "hi", "verify": ["true"], "run_at": "2030-01-01T00:00:00Z", "priority": -1},
        "d": {"agent": "testing", "call": "examples.repo_audit:score", "with": {"top": "{{ inputs.top }}"}},
    },
}  # fmt: skip

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6)
arbitrary_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9) | texts
    | st.sampled_from(["", " ", "x" * 300, "10 m", "a b", "always", "{{", "1s", "a[", "FLEET_X"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
words = st.sampled_from(["agent", "run", "needs", "matrix", "limit", "key", "name", "budget", "$schema"]) | texts


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) pair within a value."""
    found: list[tuple[Any, Any]] = []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        found += [(value, key), *places(item)]
    return found


@st.composite
def nearly_plans(draw: st.DrawFn) -> dict[str, Any]:
    """A plan with every key, with random replacements, removals and additions."""
    data = copy.deepcopy(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(data)))
        match draw(st.integers(0, 2)):
            case 0:
                container[key] = draw(arbitrary_values)
            case 1:
                del container[key]
            case _ if isinstance(container, dict):
                container[draw(words)] = draw(arbitrary_values)
        assume(data)
    return data


def test_the_original_plan_is_valid_for_both() -> None:
    assert VALIDATOR.is_valid(WHOLE)
    load(json.dumps(WHOLE))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nearly_plans())
def test_the_validator_refuses_what_the_schema_refuses_with_line_and_fix(data: dict[str, Any]) -> None:
    result = problems(json.dumps(data, indent=1))
    assert result or VALIDATOR.is_valid(data)
    assert all(problem.line for problem in result)
    assert all(problem.fix not in ("", "See docs/plan.md.") for problem in result), [str(problem) for problem in result]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nearly_plans())
def test_text_and_data_have_the_same_problems(data: dict[str, Any]) -> None:
    is_refused = bool(problems(json.dumps(data)))
    try:
        plan.from_data(data=data, context=CONTEXT)
    except plan.PlanError:
        assert is_refused
    else:
        assert not is_refused


def test_a_wrong_template_in_the_defaults_is_a_problem_even_with_a_matrix() -> None:
    text = 'mission: M\ndefaults: {env: {A: "{{"}}\nsorties:\n  b: {agent: testing, run: x, matrix: {v: [1, 2]}}\n'
    assert [problem.message for problem in problems(text)] == ['"{{" is not closed by "}}".']
