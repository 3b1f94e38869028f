"""Templates look up values and do nothing else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import errors
from missions.plan import Json, templates
from tests.missions.plan.plans import sorties

SCOPE = templates.ReferenceScope(
    needs={"lint": {"files": ["a.py", {"n": 3}], "ok": True, "odd name": None}, "shards": [{"n": 1}, {"n": 2}]},
    inputs={"top": 10, "text": "{{ needs.lint.result.ok }}"},
    matrix={"v": "3.11"},
    mission={"name": "M"},
    sortie={"key": "k"},
)


@pytest.mark.parametrize(
    "value, rendered",
    [
        ("{{ needs.lint.result.files }}", ["a.py", {"n": 3}]),
        ("{{needs.lint.result.files[1].n}}", 3),
        ("{{ needs.lint.result.ok }}", True),
        ('{{ needs.lint.result["odd name"] }}', None),
        ("{{ needs.shards.result[1].n }}", 2),
        ("{{ needs.shards.result }}", [{"n": 1}, {"n": 2}]),
        ("{{ inputs.top }}", 10),
        ("top {{ inputs.top }} of {{ mission.name }}/{{ sortie.key }} py{{ matrix.v }}", "top 10 of M/k py3.11"),
        (" {{ needs.lint.result.files }}", ' ["a.py", {"n": 3}]'),
        ("{{ inputs.top }}{{ inputs.top }}", "1010"),
        ("\\{{ inputs.top }}", "{{ inputs.top }}"),
        ("{ not } a template }}", "{ not } a template }}"),
        ({"a": ["{{ inputs.top }}", 1, None]}, {"a": [10, 1, None]}),
        # Inserted values are not expanded again, so data cannot refer to anything.
        ("{{ inputs.text }}", "{{ needs.lint.result.ok }}"),
        ("x {{ inputs.text }}", "x {{ needs.lint.result.ok }}"),
    ],
)
def test_a_reference_is_replaced_by_its_value(value: Json, rendered: Json) -> None:
    assert templates.render(value=value, scope=SCOPE) == rendered


@pytest.mark.parametrize(
    "value, words",
    [
        ("{{ needs.lint.result.count }}", ['needs.lint.result has "files", "ok", "odd name"', 'no "count"']),
        ("{{ needs.build.result }}", ['needs has "lint", "shards"', 'no "build"']),
        ("{{ needs.lint.result.files[7] }}", ["needs.lint.result.files is a list of 2", "no [7]"]),
        ("{{ needs.lint.result.files.n }}", ["is a list of 2", 'no "n"']),
        ("{{ needs.lint.result.ok.n }}", ["is a boolean"]),
        ('{{ needs.lint.result["odd name"].n }}', ["is null"]),
        ("{{ inputs.text[0] }}", ["is a string"]),
        ("{{ inputs.__class__ }}", ["no"]),
    ],
)
def test_an_unknown_path_is_reported_with_the_existing_names(value: str, words: list[str]) -> None:
    with pytest.raises(errors.Invalid) as excinfo:
        templates.render(value=value, scope=SCOPE)
    assert all(word in str(excinfo.value) for word in words), str(excinfo.value)


def test_templates_cannot_expand_a_value_without_limit() -> None:
    scope = templates.ReferenceScope(inputs={"x": "x" * 10_000})
    with pytest.raises(errors.Invalid, match="1,000,000 characters"):
        templates.render(value=["{{ inputs.x }}"] * 101, scope=scope)


@given(st.text('{}\\ .[]"inputs0', max_size=40))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    with contextlib.suppress(errors.Invalid, ValueError):
        templates.render(value=text, scope=SCOPE)


@given(st.text(max_size=40).filter(lambda text: "{{" not in text))
def test_text_without_a_template_stays_as_it_is(text: str) -> None:
    assert templates.render(value=text, scope=SCOPE) == text


def test_only_references_to_the_matrix_are_replaced_when_the_plan_is_read() -> None:
    specs = sorties(
        "a: {agent: testing, run: x}\n"
        "m: {agent: testing, needs: [a], matrix: {v: [1]}, run: [x, '{{ matrix.v }} {{ needs.a.result }} \\{{']}"
    )
    assert specs["m[v=1]"].run == ("x", "1 {{ needs.a.result }} \\{{")


def test_braces_for_the_shell_are_written_with_a_backslash() -> None:
    specs = sorties("a: {agent: testing, run: \"docker ps --format '\\\\{{ .Names }}'\"}")
    assert specs["a"].run == "docker ps --format '{{ .Names }}'"


def test_a_result_may_be_an_argument_and_a_variable() -> None:
    specs = sorties(
        "a: {agent: testing, run: x}\n"
        "b: {agent: testing, needs: [a], run: [x, '{{ needs.a.result }}'], env: {A: '{{ needs.a.result.n }}'}}"
    )
    assert specs["b"].run == ("x", "{{ needs.a.result }}")
    assert specs["b"].env == {"A": "{{ needs.a.result.n }}"}
