"""Sorties that a running sortie asks to add."""

from __future__ import annotations

from typing import Any

import pytest

from missions import plan
from tests.missions.plans import SURROUNDINGS

EXISTING = ("inventory", "shards[v=1]", "shards[v=2]")


def add(*items: Any, **more: Any) -> tuple[plan.SortieSpec, ...]:
    return plan.added(
        **{
            "items": items,
            "existing": EXISTING,
            "parent": "inventory",
            "surroundings": SURROUNDINGS,
            "defaults": {"timeout": "10m"},
            **more,
        }
    )


def test_they_take_the_defaults_of_the_plan() -> None:
    (spec,) = add({"name": "scan", "agent": "security", "run": ["scan", "a b"]})
    assert (spec.key, spec.agent_type, spec.run, spec.timeout_s) == ("scan", "security", ("scan", "a b"), 600.0)


def test_they_may_need_each_other_and_what_is_there() -> None:
    join = {"name": "join", "agent": "testing", "run": "x", "needs": ["scan", "inventory", "shards", "shards[v=1]"]}
    specs = {spec.key: spec for spec in add(join, {"name": "scan", "agent": "security", "run": "x"})}
    assert list(specs) == ["scan", "join"]
    assert specs["join"].groups == {
        "scan": ("scan",),
        "inventory": ("inventory",),
        "shards": ("shards[v=1]", "shards[v=2]"),
        "shards[v=1]": ("shards[v=1]",),
    }
    assert specs["join"].many == {"shards"}


@pytest.mark.parametrize(
    "items, words",
    [
        ([{"agent": "testing", "run": "x"}], ["name"]),
        ([{"name": "a b", "agent": "testing", "run": "x"}], ["not a name for a sortie"]),
        ([{"name": "inventory", "agent": "testing", "run": "x"}], ['"inventory"', "already"]),
        ([{"name": "shards", "agent": "testing", "run": "x", "matrix": {"v": [1]}}], ["already"]),
        ([{"name": "a", "agent": "testng", "run": "x"}], ['Did you mean "testing"?']),
        ([{"name": "a", "agent": "testing", "run": "x", "needs": ["b"]}], ['"b" is not a sortie']),
        ([{"name": "a", "agent": "testing", "run": "{{ needs.inventory.result }}"}], ["shell text"]),
        ([{"name": "a", "agent": "testing", "run": "x", "matrix": {"v": list(range(101))}}], ["101"]),
        ([{"name": f"a{n}", "agent": "testing", "run": "x"} for n in range(101)], ["101 sorties"]),
        ([{"name": "a", "agent": "testing", "run": "x", "budget": 1}], ["not available yet"]),
        ([{"name": "a", "agent": "testing", "driver": "scripted", "with": {"x": "a\0"}}], ["NUL"]),
        ([{"name": "a", "agent": "testing", "run": "x", "needs": ["a"]}], ["itself"]),
    ],
)
def test_what_cannot_be_added_is_refused(items: list[Any], words: list[str]) -> None:
    with pytest.raises(plan.PlanError) as caught:
        add(*items)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_nothing_to_add_is_nothing() -> None:
    assert add() == ()


def test_they_may_read_the_inputs_of_the_mission() -> None:
    (spec,) = add({"name": "a", "agent": "testing", "run": ["x", "{{ inputs.top }}"]}, inputs={"top"})
    assert spec.run == ("x", "{{ inputs.top }}")
