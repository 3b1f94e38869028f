"""No small plan keeps a CPU busy: reading is linear in the size of the plan and has a time limit."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from missions import plan
from missions.plan import PlanContext, PlanError, TypeFacts
from missions.plan.graph import matrix
from missions.plan.problems import Problems

CONTEXT = PlanContext(
    types={"testing": TypeFacts(takes_prompt=True)},
    callables=(),
    drivers={"command"},
    max_sorties=20_000,
    max_bytes=10_000_000,
    max_added=1_000,
    max_s=20,
)


def sortie(**more: Any) -> dict[str, Any]:
    return {"agent": "testing", "run": ["true"], **more}


def read(sorties: dict[str, Any], context: PlanContext = CONTEXT, **more: Any) -> plan.Plan:
    return plan.load(text=json.dumps({"mission": "x", "sorties": sorties, **more}), context=context)


def problems(sorties: dict[str, Any], context: PlanContext = CONTEXT, **more: Any) -> list[str]:
    with pytest.raises(PlanError) as excinfo:
        read(sorties, context, **more)
    return [str(problem) for problem in excinfo.value.problems]


def test_patterns_are_looked_up_and_not_compared_one_by_one() -> None:
    """Comparing 1,500 patterns with 19,600 combinations would take seconds."""
    patterns = [{"a": n % 140, "b": 1_000 + n} for n in range(1_500)]
    result = problems({"a": sortie(matrix={"a": list(range(140)), "b": list(range(140)), "exclude": patterns})})
    assert "This pattern excludes nothing" in result[0]


def test_patterns_of_all_shapes_exclude_the_combinations_that_they_match() -> None:
    found = Problems()
    combinations = matrix.combinations(
        matrix={"a": [1, 2, 3], "b": ["x", "y"], "exclude": [{"a": 1}, {"b": "y", "a": 2}, {"a": 3, "b": "x"}]},
        path=(),
        limit=100,
        problems=found,
    )
    assert combinations == [{"a": 2, "b": "x"}, {"a": 3, "b": "y"}]
    assert not found


def test_a_pattern_without_any_remaining_match_is_a_problem() -> None:
    found = Problems()
    matrix.combinations(
        matrix={"a": [1, 2], "b": [1, 2], "exclude": [{"a": 1}, {"a": 1, "b": 2}]}, path=(), limit=100, problems=found
    )
    with pytest.raises(PlanError, match="This pattern excludes nothing"):
        found.check()


def test_the_number_of_different_pattern_shapes_is_bounded() -> None:
    names = [f"n{n}" for n in range(8)]
    shapes = [{name: 1 for at, name in enumerate(names) if number >> at & 1} for number in range(1, 200)]
    result = problems({"a": sortie(matrix={**{name: [1, 2] for name in names}, "exclude": shapes})})
    assert any("different sets of axes" in item for item in result)


def test_each_reference_in_a_text_is_checked_once() -> None:
    read({"a": sortie(run=["{{inputs.a}}" * 600_000])}, inputs={"a": {}})


def test_a_need_among_thousands_is_looked_up() -> None:
    """4,000 sorties with 20 needs each of a matrix of 5,000 would need four hundred million comparisons."""
    dependents = {f"t{n}": sortie(needs=[f"a[a={4_999 - m}]" for m in range(20)]) for n in range(4_000)}
    assert len(read({"a": sortie(matrix={"a": list(range(5_000))}), **dependents}).sorties) == 9_000


def test_matrices_are_counted_before_they_are_expanded() -> None:
    """A thousand matrices of a few kilobytes would have twenty million combinations."""
    wide = sortie(matrix={"a": list(range(140)), "b": list(range(140))})
    result = problems({f"s{n}": wide for n in range(1_000)})
    assert len(result) == 1
    assert "With all matrices expanded, there are 39,200 or more sorties; at most 20,000 are allowed." in result[0]


def test_ten_thousand_bad_names_do_not_copy_the_plan_ten_thousand_times() -> None:
    result = problems({f"a b{n}": sortie() for n in range(9_000)})
    assert len(result) == 1_001
    assert '"a b0" is not a valid name for a sortie' in result[0]


def test_a_plan_that_takes_too_long_ends_with_one_problem() -> None:
    many = {f"s{n}": sortie(env={"A": "{{ sortie.key }}"}) for n in range(5_000)}
    result = problems(many, replace(CONTEXT, max_s=0.01))
    assert result == ["Reading this plan took longer than 10 ms and was stopped. Split it into several plans."]


def test_the_place_of_a_problem_is_shortened() -> None:
    text = '{"mission": "x", "' + "k" * 600_000 + '": [' + ", ".join(["1e999"] * 900) + "]}"
    start = time.thread_time()
    with pytest.raises(PlanError) as excinfo:
        plan.load(text=text, context=CONTEXT)
    assert sum(len(json.dumps(problem.as_api_error())) for problem in excinfo.value.problems) < 1_000_000
    assert time.thread_time() - start < CONTEXT.max_s
