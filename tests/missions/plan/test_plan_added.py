"""Sorties that a running sortie adds to its mission."""

from __future__ import annotations

from typing import Any

import pytest

from missions import plan
from tests.missions.plan.plans import CONTEXT

EXISTING = ("inventory", "shards[v=1]", "shards[v=2]")


def add(*items: Any, **more: Any) -> tuple[plan.SortieSpec, ...]:
    return plan.load_added(
        **{
            "items": items,
            "existing": EXISTING,
            "parent": "inventory",
            "context": CONTEXT,
            "defaults": {"timeout": "10m"},
            **more,
        }
    )


def test_added_sorties_take_the_defaults_of_the_plan() -> None:
    (spec,) = add({"name": "scan", "agent": "security", "run": ["scan", "a b"]})
    assert (spec.key, spec.agent_type, spec.run, spec.timeout_s) == ("scan", "security", ("scan", "a b"), 600.0)


def test_added_sorties_may_need_each_other_and_existing_ones() -> None:
    join = {"name": "join", "agent": "testing", "run": "x", "needs": ["scan", "inventory", "shards", "shards[v=1]"]}
    specs = {spec.key: spec for spec in add(join, {"name": "scan", "agent": "security", "run": "x"})}
    assert list(specs) == ["scan", "join"]
    assert specs["join"].groups == {
        "scan": ("scan",),
        "inventory": ("inventory",),
        "shards": ("shards[v=1]", "shards[v=2]"),
        "shards[v=1]": ("shards[v=1]",),
    }
    assert specs["join"].matrix_needs == {"shards"}


@pytest.mark.parametrize(
    "items, words",
    [
        ([{"agent": "testing", "run": "x"}], ["name"]),
        ([{"name": "a b", "agent": "testing", "run": "x"}], ["not a valid name for a sortie"]),
        ([{"name": "inventory", "agent": "testing", "run": "x"}], ['"inventory"', "already"]),
        ([{"name": "shards", "agent": "testing", "run": "x", "matrix": {"v": [1]}}], ["already"]),
        ([{"name": "a", "agent": "testng", "run": "x"}], ['Did you mean "testing"?']),
        ([{"name": "a", "agent": "testing", "run": "x", "needs": ["b"]}], ['"b" is not a sortie']),
        ([{"name": "a", "agent": "testing", "run": "{{ needs.inventory.result }}"}], ["part of a shell command"]),
        ([{"name": "a", "agent": "testing", "run": "x", "matrix": {"v": list(range(101))}}], ["101"]),
        ([{"name": f"a{n}", "agent": "testing", "run": "x"} for n in range(101)], ["101 sorties"]),
        ([{"name": "a", "agent": "testing", "run": "x", "budget": 1}], ["not available yet"]),
        ([{"name": "a", "agent": "testing", "driver": "scripted", "with": {"x": "a\0"}}], ["NUL"]),
        ([{"name": "a", "agent": "testing", "run": "x", "needs": ["a"]}], ["itself"]),
        ([{"name": "a", "agent": "testing", "run": "x"}] * 2, ["appears twice"]),
        ([{"name": f"a[{'x' * 120}]" + "y", "agent": "testing", "run": "x"}], ["not a valid name for a sortie"]),
        ([{"name": f"{'a' * 100}[{'x' * 120}]", "agent": "testing", "run": "x"}], ["222 characters", "200"]),
        ([{"name": "a", "agent": "testing", "run": "x", "before": "report"}], ["not a list of names"]),
        ([{"name": "a", "agent": "testing", "run": "x", "before": ["report"]}], ['"report" is not a sortie']),
        (
            ["a", {"name": "b", "agent": "testing", "run": "x"}, None],
            ['Item 1 is the string "a", but must be a mapping', "Item 3 is empty, but must"],
        ),
    ],
)
def test_an_invalid_addition_is_refused(items: list[Any], words: list[str]) -> None:
    with pytest.raises(plan.PlanError) as excinfo:
        add(*items)
    assert all(word in str(excinfo.value) for word in words), str(excinfo.value)


def test_all_problems_of_a_list_are_reported_together() -> None:
    fine = {"agent": "testing", "run": "x"}
    with pytest.raises(plan.PlanError) as excinfo:
        add(
            {**fine, "name": "inventory", "timeout": "soon"},
            {**fine, "name": "scan[part=1]", "before": ["nobody"]},
            {**fine, "name": "scan[part=1]", "agent": "testng"},
            {"name": "idle", "agent": "testing"},
            {**fine, "name": "late", "needs": ["gone"], "color": "red"},
            "text",
            fine,
        )
    problems = [problem.message for problem in excinfo.value.problems]
    for words in (
        '"inventory" is already in the mission', '"soon" is not a duration', '"nobody" is not a sortie of this mission',
        '"scan[part=1]" appears twice', 'no agent type "testng"', "It has nothing to do", '"gone" is not a sortie',
        'The key "color" is not known', 'Item 6 is the string "text"', "Item 7 has no name",
    ):  # fmt: skip
        assert len([item for item in problems if words in item]) == 1, (words, problems)
    assert len(problems) == 10


@pytest.mark.parametrize("items", [{"a": {"agent": "testing"}}, "text", 3, None, True, {"name": "a"}])
def test_anything_but_a_list_is_refused(items: object) -> None:
    with pytest.raises(plan.PlanError, match="not a list"):
        add(items=items)


def test_a_part_joins_a_group_and_before_names_new_dependents() -> None:
    parts = [{"name": f"scan[part={n}]", "agent": "security", "run": "x", "before": ["inventory"]} for n in range(2)]
    join = {"name": "join", "agent": "testing", "run": "x", "needs": ["scan[part=0]"]}
    specs = {spec.key: spec for spec in add(*parts, join)}
    assert set(specs) == {"scan[part=0]", "scan[part=1]", "join"}
    assert {spec.name for spec in specs.values()} == {"scan", "join"}
    assert specs["scan[part=1]"].before == ("inventory",)
    assert specs["join"].groups == {"scan[part=0]": ("scan[part=0]",)}


def test_added_sorties_inherit_the_priority_of_their_parent() -> None:
    plain = {"name": "a", "agent": "testing", "run": "x"}
    own = {"name": "b", "agent": "testing", "run": "x", "priority": -3}
    specs = {spec.key: spec for spec in add(plain, own, priority=40, defaults={"priority": 7})}
    assert (specs["a"].priority, specs["b"].priority) == (40, -3)


def test_an_empty_list_adds_nothing() -> None:
    assert add() == ()


def test_added_sorties_may_use_the_inputs_of_the_mission() -> None:
    (spec,) = add({"name": "a", "agent": "testing", "run": ["x", "{{ inputs.top }}"]}, inputs={"top"})
    assert spec.run == ("x", "{{ inputs.top }}")


def test_before_cannot_name_a_started_sortie_and_the_problem_is_reported_with_the_others() -> None:
    items = (
        {"name": "n1", "agent": "testing", "run": "x", "before": ["inventory", "zz"]},
        {"name": "n2", "agent": "testing", "run": "x", "rnu": 1, "needs": ["qq"]},
    )
    with pytest.raises(plan.PlanError) as excinfo:
        add(*items, started={"inventory"})
    values = {problem.message: problem.fix for problem in excinfo.value.problems}
    assert set(values) == {
        '"inventory" has already started, or no longer waits for another sortie.',
        '"zz" is not a sortie of this mission.',
        '"qq" is not a sortie of this mission.',
        'The key "rnu" is not known.',
    }
    assert values['"qq" is not a sortie of this mission.'] == "Use inventory, n1, shards[v=1] or shards[v=2]."
