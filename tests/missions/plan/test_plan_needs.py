"""Needs: order, cycles and needs of a whole matrix."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from missions import plan
from tests.missions.plan.plans import CONTEXT, problems, sorties, whole

GRAPHS = st.integers(1, 9).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, size - 1), max_size=3, unique=True), min_size=size, max_size=size)
)


def plan_data(graph: list[list[int]]) -> dict[str, object]:
    items = {
        f"s{index}": {"agent": "testing", "run": "x", "needs": [f"s{need}" for need in needs if need != index]}
        for index, needs in enumerate(graph)
    }
    return {"mission": "M", "sorties": items}


def has_cycle(graph: list[list[int]]) -> bool:
    """A naive implementation: some node reaches itself."""
    reached = [{need for need in needs if need != index} for index, needs in enumerate(graph)]
    for _ in graph:
        for mine in reached:
            mine |= {further for need in mine for further in reached[need]}
    return any(index in mine for index, mine in enumerate(reached))


@settings(max_examples=300, deadline=None)
@given(GRAPHS)
def test_a_plan_is_refused_for_a_cycle_exactly_when_a_sortie_reaches_itself(graph: list[list[int]]) -> None:
    try:
        parsed = plan.from_data(data=plan_data(graph), context=CONTEXT)
    except plan.PlanError as error:
        assert has_cycle(graph)
        for found in error.problems:
            names = found.message.removesuffix(".").rpartition(": ")[2].split(" → ")
            assert names[0] == names[-1]
            steps = itertools.pairwise(names)
            assert all(int(other[1:]) in graph[int(item[1:])] for item, other in steps)
    else:
        assert not has_cycle(graph)
        seen: set[str] = set()
        for spec in parsed.sorties:
            assert set(spec.needs) <= seen
            seen.add(spec.key)
        assert len(seen) == len(graph)


def test_sorties_keep_the_order_of_the_plan_where_needs_allow_it() -> None:
    text = "c: {agent: testing, run: x, needs: [z]}\nb: {agent: testing, run: x}\nz: {agent: testing, run: x}"
    assert list(sorties(text)) == ["b", "z", "c"]


def test_two_cycles_are_both_reported() -> None:
    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]
    found = problems(whole("\n".join(f"{item}: {{agent: testing, run: x, needs: [{other}]}}" for item, other in pairs)))
    assert [item.message.rpartition(": ")[2] for item in found] == ["a → b → a.", "c → d → c."]


def test_a_cycle_of_thousands_is_found_and_shortened() -> None:
    lines = [f"s{number}: {{agent: testing, run: x, needs: [s{(number + 1) % 5_000}]}}" for number in range(5_000)]
    (found,) = problems(whole("\n".join(lines)))
    assert "s0 → s1 → s2" in found.message
    assert "more) → s0" in found.message
    assert len(found.message) < 200


def test_a_need_of_a_matrix_means_all_members_and_its_result_is_a_list() -> None:
    specs = sorties(
        "m: {agent: testing, run: x, matrix: {v: [b, a]}}\n"
        "all: {agent: testing, run: x, needs: [m, one]}\n"
        "one: {agent: testing, run: x, needs: ['m[v=a]']}"
    )
    assert specs["all"].groups == {"m": ("m[v=b]", "m[v=a]"), "one": ("one",)}
    assert specs["all"].matrix_needs == {"m"}
    assert specs["all"].needs == ("m[v=b]", "m[v=a]", "one")
    assert specs["one"].groups == {"m[v=a]": ("m[v=a]",)}
    assert specs["one"].matrix_needs == frozenset()


def test_the_result_of_a_matrix_with_one_member_is_a_list() -> None:
    specs = sorties("m: {agent: testing, run: x, matrix: {v: [b]}}\nall: {agent: testing, run: x, needs: [m]}")
    assert specs["all"].matrix_needs == {"m"}


def test_the_total_number_of_needs_is_limited() -> None:
    values = ", ".join(map(str, range(1_000)))
    text = whole(
        f"a: {{agent: testing, run: x, matrix: {{v: [{values}]}}}}\n"
        f"b: {{agent: testing, run: x, matrix: {{v: [{values}]}}, needs: [a]}}"
    )
    (found,) = problems(text)
    assert "1,000,000 needs" in found.message
    assert "a sortie between" in found.fix
