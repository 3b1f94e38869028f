"""The inputs of a mission, as a plan declares them and a launch supplies them."""

from __future__ import annotations

import pytest

from missions import plan
from tests.missions.plan.plans import load

PLAN = load("""\
mission: M
inputs:
  repo: {required: true, description: The repository to audit.}
  top: {type: integer, default: 10}
  ratio: {type: number}
  deep: {type: boolean, default: false}
  tags: {type: array, default: []}
  extra: {type: object}
  level: {enum: [low, high], default: low}
sorties:
  a: {agent: testing, run: "audit", env: {REPO: "{{ inputs.repo }}"}}
""")


def test_missing_inputs_take_their_defaults() -> None:
    values = {"repo": ".", "top": 10, "ratio": None, "deep": False, "tags": [], "extra": None, "level": "low"}
    assert plan.bind(plan=PLAN, params={"repo": "."}) == values


def test_texts_from_the_command_line_are_converted_to_the_declared_type() -> None:
    value = {
        "repo": "1",
        "top": "3",
        "ratio": "0.5",
        "deep": "yes",
        "tags": '["x"]',
        "extra": '{"a": 1}',
        "level": "high",
    }
    values = {"repo": "1", "top": 3, "ratio": 0.5, "deep": True, "tags": ["x"], "extra": {"a": 1}, "level": "high"}
    assert plan.bind(plan=PLAN, params=value) == values


@pytest.mark.parametrize(
    "values, words",
    [
        ({}, ["inputs.repo", "required", "--param repo=", "The repository to audit."]),
        ({"repo": ".", "tpo": 1}, ['"tpo" is not an input', 'Did you mean "top"?']),
        ({"repo": ".", "top": "many"}, ["inputs.top", "not of type integer"]),
        ({"repo": ".", "top": 1.5}, ["not of type integer"]),
        ({"repo": ".", "top": True}, ["not of type integer"]),
        ({"repo": 1}, ["1 is not of type string"]),
        ({"repo": ".", "ratio": 10**400}, ["is an integer outside ±2⁶³"]),
        ({"repo": ".", "ratio": "NaN"}, ["is not a finite number"]),
        ({"repo": ".", "deep": "perhaps"}, ["not of type boolean"]),
        ({"repo": ".", "tags": '{"a": 1}'}, ["not of type array"]),
        ({"repo": ".", "extra": "[" * 100_000}, ["nested more than 40 levels deep"]),
        ({"repo": ".", "level": "middle"}, ["not allowed", "low"]),
        ({"repo": "a\0b"}, ["NUL"]),
        ({"repo": "\udcff"}, ["unpaired surrogate"]),
    ],
)
def test_an_invalid_input_is_refused(values: dict[str, plan.Json], words: list[str]) -> None:
    with pytest.raises(plan.PlanError) as excinfo:
        plan.bind(plan=PLAN, params=values)
    assert all(word in str(excinfo.value) for word in words), str(excinfo.value)


def test_all_invalid_inputs_are_reported_at_once() -> None:
    with pytest.raises(plan.PlanError) as excinfo:
        plan.bind(plan=PLAN, params={"top": "x", "unknown": 1})
    assert len(excinfo.value.problems) == 3
