"""All problems of a plan are reported together: none hides, repeats or causes another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import missions.plan
from missions import plan
from tests.missions.plan.plans import CONTEXT, problems, whole

SCHEMA = json.loads((Path(missions.plan.__file__).parent / "document" / "schema.json").read_text())


def problem_texts(text: str) -> list[tuple[str, str]]:
    return [(item.where, item.message) for item in problems(text)]


def test_a_broken_item_of_a_list_does_not_hide_the_others() -> None:
    found = problem_texts(whole('a: {agent: testing, run: x, outputs: [../a, /b, "", ../a]}'))
    assert sorted(found) == [
        ("sorties.a.outputs", '"../a" appears twice.'),
        ("sorties.a.outputs", "It is empty."),
        ("sorties.a.outputs", 'The output "../a" is not below the sortie\'s folder.'),
        ("sorties.a.outputs", 'The output "/b" is not a relative path.'),
    ]


def test_a_duplicate_need_hides_no_unknown_need_cycle_or_template() -> None:
    found = [
        problem
        for _, problem in problem_texts(
            whole(
                "c: {agent: testing, run: ['{{ needs.e.result }}'], needs: [d, d, zz]}\n"
                "d: {agent: testing, run: x, needs: [c]}\ne: {agent: testing, run: x}"
            )
        )
    ]
    assert sorted(found) == [
        '"d" appears twice.',
        '"zz" is not a sortie of this plan.',
        "The needs form a cycle: c → d → c.",
        '{{ needs.e.result }}: "e" is not in the needs of this sortie.',
    ]


@pytest.mark.parametrize(
    "other",
    [
        "env: {A: '{{ inputs.zz }}'}",
        "timeout: soon",
        "with: {a: 1}",
        "matrix: {v: [3.10]}",
        "outputs: ['{{ matrix.zz }}']",
        "agent: 5",
        "driver: nosuch",
    ],
)
def test_another_problem_does_not_hide_two_limits_of_one_key(other: str) -> None:
    agent = "" if "agent" in other else "agent: testing, "
    text = whole(
        "a: {agent: testing, run: x, concurrency: {key: k, limit: 2}}\n"
        f"b: {{{agent}run: x, concurrency: {{key: k, limit: 3}}, {other}}}"
    )
    found = [problem for _, problem in problem_texts(text)]
    assert 'The key "k" has the limit 3 here and 2 in a.' in found
    assert len(found) == 2


@pytest.mark.parametrize(
    "other",
    ["cwd: '{{ needs.a }}'", "timeout: soon", "agent: nobody", "matrix: {u: ['a b', $x], v: [3.10]}", "outputs: [/a]"],
)
def test_another_problem_does_not_hide_values_that_the_shell_would_expand(other: str) -> None:
    agent = "" if "agent" in other else "agent: testing, "
    values = "" if "matrix" in other else "matrix: {u: ['a b', $x]}, "
    found = [
        problem for _, problem in problem_texts(whole(f'a: {{{agent}run: "echo {{{{ matrix.u }}}}", {values}{other}}}'))
    ]
    for value in ("a b", "$x"):
        assert f'The value "{value}" of matrix.u has characters that the shell interprets.' in found
    assert len(found) == 3


def test_a_wrong_default_hides_no_problem_of_the_sorties() -> None:
    text = (
        'mission: M\ndefaults: {env: {A: "{{"}}\nsorties:\n'
        '  a: {agent: testing, run: "{{ matrix.u }}", matrix: {u: [a b]}, outputs: ["/{{ matrix.u }}"]}\n'
    )
    assert [problem.split()[0] for _, problem in problem_texts(text)] == ['"{{"', "The", "The"]


def test_a_wrong_agent_or_driver_does_not_hide_a_wrong_callable() -> None:
    for wrong in ("agent: 5", "agent: testing, driver: 5"):
        assert len(found := problem_texts(whole(f"a: {{{wrong}, call: 'no:such'}}"))) == 2
        assert ("sorties.a.call", 'There is no registered callable "no:such".') in found


def test_both_kinds_of_work_in_one_sortie_are_checked() -> None:
    found = [
        problem
        for _, problem in problem_texts(whole("a: {agent: testing, run: 'echo {{ inputs.a }}', call: 'no:such'}"))
    ]
    assert len(found) == 3


def test_an_unknown_agent_type_in_the_defaults_is_reported_once() -> None:
    for sorties in ("a: {agent: testing, run: x}", "a: {run: x}\n  b: {run: y}"):
        text = f"mission: M\ndefaults: {{agent: nobody}}\nsorties:\n  {sorties}\n"
        assert problem_texts(text) == [("defaults.agent", 'There is no agent type "nobody".')]


@pytest.mark.parametrize("program", ['[""]', '["", a]', '[" "]'])
@pytest.mark.parametrize("key", ["run", "verify"])
def test_a_command_without_a_program_is_refused(key: str, program: str) -> None:
    work = "" if key == "run" else "run: x, "
    (found,) = problems(whole(f"a: {{agent: testing, {work}{key}: {program}}}"))
    assert (found.where, found.message, found.fix) == (f"sorties.a.{key}", "It is empty.", "Name the program to start.")


def test_an_empty_argument_is_valid() -> None:
    assert not problems(whole('a: {agent: testing, run: [echo, ""]}'))


@pytest.mark.parametrize(
    "sortie, where",
    [
        ('{agent: testing, run: "a\\0b"}', "sorties.c.run"),
        ('{agent: testing, run: ["a", "a\\0b"]}', "sorties.c.run"),
        ("{agent: testing, run: x, timeout: .inf}", "sorties.c.timeout"),
        ("{agent: testing, run: x, retry: {backoff: .inf}}", "sorties.c.retry.backoff"),
        ("{agent: testing, run: x, timeout: 1e400}", "sorties.c.timeout"),
        ("{agent: testing, run: x, timeout: 12345678901234567890}", "sorties.c.timeout"),
        ("{agent: testing, run: !!python/name:os.system x}", "sorties.c.run"),
        ("!!python/object:os.system {agent: testing, run: x}", "sorties.c"),
        ("!!python/object:os.system {}", "sorties.c"),
        ("!!python/object:os.system x", "sorties.c"),
        ("{agent: testing, run: x, run: y}", "sorties.c.run"),
        ("{agent: testing, run: x, env: {A: b, A: c}}", "sorties.c.env.A"),
        ("{<<: {agent: testing, run: x}}", "sorties.c.<<"),
        ("{<<: {agent: testing}, driver: command}", "sorties.c.<<"),
        ('{agent: testing, run: x, run_at: "2030-02-31T06:00:00+01:00"}', "sorties.c.run_at"),
        ('{agent: testing, run: x, run_at: "2030-02-28T06:00:00"}', "sorties.c.run_at"),
        ('{agent: testing, run: x, run_at: "9999-12-31T23:59:59-23:59"}', "sorties.c.run_at"),
        ('{agent: testing, run: x, run_at: "0001-01-01T00:00:00+01:00"}', "sorties.c.run_at"),
    ],
)
def test_a_problem_is_reported_once_with_its_place(sortie: str, where: str) -> None:
    assert [place for place, _ in problem_texts(whole(f"c: {sortie}"))] == [where]


def test_a_problem_behind_an_anchor_is_reported_once() -> None:
    lines = ["a: &a {agent: testing, run: x, timeout: &t .inf}", "b: *a", "c: {agent: testing, run: x, silence: *t}"]
    assert problem_texts(whole("\n".join(lines))) == [
        ("sorties.a.timeout", '".inf" is not a number that JSON can represent.')
    ]


def test_a_value_that_is_not_json_is_reported_once() -> None:
    data = {"mission": "M", "sorties": {"a": {"agent": "testing", "run": "x", "timeout": float("inf")}}}
    with pytest.raises(plan.PlanError) as excinfo:
        plan.from_data(data=data, context=CONTEXT)
    assert [problem.where for problem in excinfo.value.problems] == ["sorties.a.timeout"]


def test_an_input_with_an_unknown_type_has_only_that_problem() -> None:
    text = "mission: M\ninputs: {n: {type: int, default: 3, enum: [3, 4]}}\nsorties:\n  a: {agent: testing, run: x}\n"
    assert [where for where, _ in problem_texts(text)] == ["inputs.n.type"]


def test_a_wrong_value_of_a_matrix_has_only_that_problem() -> None:
    text = whole(
        'a: {agent: testing, run: "echo {{ matrix.v }} {{ matrix.w }}", matrix: {v: [3.10], w: [], include: [{v: 1, w: []}]}}\n'
        "b: {agent: testing, run: x, needs: ['a[v=3.1]']}"
    )
    assert [where for where, _ in problem_texts(text)] == [
        "sorties.a.matrix.v",
        "sorties.a.matrix.w",
        "sorties.a.matrix.include.w",
    ]


@pytest.mark.parametrize(
    "text, fix",
    [
        ("mission: M\ninputs: {w: {enum: []}}\nsorties: {a: {agent: testing, run: x}}\n", "list of distinct values"),
        ("mission: M\ninputs: {w: {description: 3}}\nsorties: {a: {agent: testing, run: x}}\n", "quotes"),
        (whole('a: {agent: testing, run: x, cwd: ""}'), "Name a folder"),
        (f"mission: M\nobjective: {'x' * 20_001}\nsorties: {{a: {{agent: testing, run: x}}}}\n", "20000 characters"),
    ],
)
def test_the_fix_fits_the_place_of_the_problem(text: str, fix: str) -> None:
    (found,) = problems(text)
    assert fix in found.fix


def parts(node: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every nested schema, by its path."""
    found = [(path, node)] if isinstance(node, dict) and "type" in node and "title" not in path else []
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        found += parts(inner, f"{path}/{key}")
    return found


def test_every_limit_of_the_schema_has_its_own_fix() -> None:
    bounds = {"minLength", "maxLength", "pattern", "minItems", "maxItems", "minimum", "maximum", "uniqueItems"}
    without = [path for path, node in parts(SCHEMA) if bounds & set(node) and "x-fix" not in node]
    assert not without


def test_thousands_of_broken_sorties_give_a_bounded_list_of_problems() -> None:
    text = whole("\n".join(f"s{number}: {{agent: testing, run: x, needs: 5, env: 3}}" for number in range(2_000)))
    found = problems(text)
    assert len(found) == 1_001
    assert found[-1].message == "There are more errors."
