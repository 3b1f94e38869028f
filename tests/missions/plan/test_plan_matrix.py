"""A matrix makes one sortie for each combination."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from missions import plan
from tests.missions.plan.plans import CONTEXT, problems, sorties, whole

AXES = st.dictionaries(
    st.sampled_from(["os", "python", "shard"]),
    st.lists(st.integers(0, 99) | st.text("ab.-", min_size=1, max_size=3), min_size=1, max_size=4, unique_by=str),
    min_size=1,
)


@settings(max_examples=200, deadline=None)
@given(AXES)
def test_there_is_one_sortie_for_each_combination(axes: dict[str, list[int | str]]) -> None:
    data = {
        "mission": "M",
        "sorties": {"m": {"agent": "testing", "run": f"x {{{{ matrix.{min(axes)} }}}}", "matrix": axes}},
    }
    sorties = plan.from_data(data=data, context=CONTEXT).sorties
    assert len(sorties) == len({spec.key for spec in sorties}) == math.prod(map(len, axes.values()))
    for spec in sorties:
        assert spec.name == "m"
        assert spec.key == f"m[{','.join(f'{name}={value}' for name, value in spec.matrix.items())}]"
        assert spec.run == f"x {spec.matrix[min(axes)]}"


def test_the_last_axis_changes_first() -> None:
    specs = sorties("m: {agent: testing, run: x, matrix: {os: [linux, mac], v: ['3.11', '3.12']}}")
    assert list(specs) == ["m[os=linux,v=3.11]", "m[os=linux,v=3.12]", "m[os=mac,v=3.11]", "m[os=mac,v=3.12]"]


def test_combinations_can_be_excluded_and_included() -> None:
    matrix = "{os: [linux, mac], v: [1, 2], exclude: [{os: mac, v: 2}], include: [{v: 3, os: bsd}]}"
    specs = sorties(f"m: {{agent: testing, run: x, matrix: {matrix}}}")
    assert list(specs) == ["m[os=linux,v=1]", "m[os=linux,v=2]", "m[os=mac,v=1]", "m[os=bsd,v=3]"]


def test_a_matrix_may_consist_of_single_combinations() -> None:
    specs = sorties("m: {agent: testing, run: x, matrix: {include: [{os: linux, v: 1}, {os: mac, v: 2}]}}")
    assert list(specs) == ["m[os=linux,v=1]", "m[os=mac,v=2]"]


def test_matrix_values_reach_every_field_and_keep_their_type() -> None:
    specs = sorties(
        "m: {agent: testing, driver: scripted, with: {n: '{{ matrix.n }}', t: 'n{{ matrix.n }}'}, matrix: {n: [7]},"
        " env: {N: '{{ matrix.n }}'}, cwd: 'd{{ matrix.n }}', outputs: ['{{ matrix.n }}.txt'],"
        " concurrency: {key: 'k{{ matrix.n }}'}, verify: [test, '{{ matrix.n }}']}"
    )
    spec = specs["m[n=7]"]
    assert spec.arguments == {"n": 7, "t": "n7"}
    assert (spec.env, spec.cwd, spec.outputs, spec.verify) == ({"N": "7"}, "d7", ("7.txt",), ("test", "7"))
    assert spec.concurrency == plan.Concurrency(key="k7")


def test_a_product_that_is_too_large_is_refused_before_it_is_expanded() -> None:
    values = ", ".join(map(str, range(1_000)))
    (found,) = problems(
        whole(f"m: {{agent: testing, run: x, matrix: {{{', '.join(f'{a}: [{values}]' for a in 'abcdef')}}}}}")
    )
    assert "1,000,000,000,000,000,000 sorties; at most 10,000 are allowed" in found.message


def test_several_matrices_count_together() -> None:
    values = ", ".join(map(str, range(6_000)))
    found = problems(whole("\n".join(f"{n}: {{agent: testing, run: x, matrix: {{v: [{values}]}}}}" for n in "ab")))
    assert "12,000 or more sorties" in found[0].message


def test_a_matrix_that_would_repeat_a_long_text_too_often_is_refused() -> None:
    values = ", ".join(map(str, range(5_000)))
    found = problems(whole(f"m: {{agent: testing, run: '{'x' * 500_000}', matrix: {{v: [{values}]}}}}"))
    assert "characters" in found[0].message
