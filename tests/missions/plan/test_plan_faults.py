"""One invalid plan for each problem, with the line, the message and the fix."""

from __future__ import annotations

import pytest

from missions import plan
from tests.missions.plan.plans import CONTEXT, load, problems, whole

OK = "{agent: testing, run: x}"

# In a sortie: its text, words of the problem, words of the fix. The sortie stands on line 3.
SORTIES = {
    "an unknown agent type": ("{agent: testng, run: x}", 'no agent type "testng"', 'Did you mean "testing"'),
    "no agent type": ("{run: x}", "no agent type", "Add agent:"),
    "an unknown key": ("{agent: testing, run: x, retires: 3}", '"retires" is not known', 'Did you mean "retry"'),
    "a key of a later version": ("{agent: testing, run: x, approval: required}", "not available yet", "Remove it"),
    "a budget": ("{agent: testing, run: x, budget: 1}", "not available yet", "Remove it"),
    "touches without a workspace": ("{agent: testing, run: x, touches: [a]}", "no workspace", "Add workspace"),
    "nothing to do": ("{agent: testing}", "nothing to do", "run, call or prompt"),
    "two things to do": (
        "{agent: testing, run: x, prompt: y}",
        "run and prompt, but a sortie does one thing",
        "Keep one",
    ),
    "an unknown callable": ("{agent: testing, call: 'examples.repo_audit:scor'}", "no registered", "audit:score"),
    "an odd callable": ("{agent: testing, call: score}", "is not a callable", "module:function"),
    "an unknown driver": ("{agent: testing, driver: scriptd}", "no driver", '"scripted"'),
    "a driver without its work": ("{agent: testing, driver: command}", "nothing to do", "run"),
    "a driver that does other work": ("{agent: testing, driver: python, run: x}", "does not take run", "Remove one"),
    "a prompt for a type that takes none": ("{agent: testing, prompt: hi}", "no command that takes a prompt", "admin"),
    "arguments for a command": ("{agent: testing, run: x, with: {a: 1}}", "Only call and driver", "env:"),
    "an unknown need": ("{agent: testing, run: x, needs: [later]}", '"later" is not a sortie', ""),
    "a need of itself": ("{agent: testing, run: x, needs: [one]}", "needs itself", "Remove"),
    "a need twice": ("{agent: testing, run: x, needs: [a, a]}", '"a" appears twice', "distinct names"),
    "needs that are no list": ("{agent: testing, run: x, needs: a}", "must be a list", "[inventory, lint]"),
    "a bad duration": ("{agent: testing, run: x, timeout: 10 minutes}", "is not a duration", "90s, 10m, 1h30m"),
    "a duration of nothing": ("{agent: testing, run: x, timeout: 0}", "above 0", "above zero"),
    "a duration of nothing, in words": ("{agent: testing, run: x, silence: 0s}", "above zero", "90s"),
    "a duration of years": ("{agent: testing, run: x, timeout: 400d}", "at most 365d", "90s"),
    "a retry that is no mapping": ("{agent: testing, run: x, retry: 3}", "must be a mapping", "max_attempts: 3"),
    "a retry without attempts": ("{agent: testing, run: x, retry: {max_attempts: 0}}", "at least 1", "1 to 100"),
    "a retry that shrinks": ("{agent: testing, run: x, retry: {factor: 0.5}}", "at least 1", "1 to 100"),
    "a longest wait below the first": (
        "{agent: testing, run: x, retry: {backoff: 1m, max: 5s}}",
        "shorter than the first",
        "Raise max",
    ),
    "yes for true": ("{agent: testing, run: x, allow_failure: yes}", 'the string "yes"', "true or false"),
    "another if": ("{agent: testing, run: x, if: never}", '"never" is not an allowed value', "Use always"),
    "a priority that is no number": ("{agent: testing, run: x, priority: high}", "must be a whole number", "-1000"),
    "a limit of nothing": ("{agent: testing, run: x, concurrency: {key: k, limit: 0}}", "at least 1", "1 to 10000"),
    "a limit without a key": ("{agent: testing, run: x, concurrency: {limit: 1}}", '"key" is missing', "key"),
    "an empty command": ("{agent: testing, run: ' '}", "empty", "string for the shell"),
    "an empty list for a command": ("{agent: testing, run: []}", "empty", "list of a program"),
    "an odd name in env": ("{agent: testing, run: x, env: {a-b: c}}", '"a-b" is not a valid name', "letters, digits"),
    "a name of the fleet's in env": ("{agent: testing, run: x, env: {FLEET_X: c}}", '"FLEET_X" is not', "FLEET_"),
    "a number with a point in env": ("{agent: testing, run: x, env: {V: 3.10}}", "the number 3.1", "quotes"),
    "an absolute output": ("{agent: testing, run: x, outputs: [/etc/passwd]}", "not a relative path", "below"),
    "an escaping output": ("{agent: testing, run: x, outputs: [a/../../b]}", "not below", "below"),
    "an output of a matrix that escapes": (
        "{agent: testing, run: x, matrix: {p: ['..']}, outputs: ['{{ matrix.p }}/a']}",
        "not below",
        "below",
    ),
    "a time without timezone": ("{agent: testing, run: x, run_at: '2030-01-01T00:00:00'}", "timezone", "+01:00"),
    "no time": ("{agent: testing, run: x, run_at: tomorrow}", "is not a time", "2030-01-31"),
    "an upstream result as shell text": (
        "{agent: testing, run: 'echo {{ needs.a.result }}', needs: [a]}",
        "would become part of a shell command",
        '"$NAME"',
    ),
    "an input as shell text": (
        "{agent: testing, run: 'echo {{ inputs.a }}'}",
        "would become part of a shell command",
        "env:",
    ),
    "an input as shell text of verify": (
        "{agent: testing, run: x, verify: '{{ inputs.a }}'}",
        "would become part of a shell command",
        "list",
    ),
    "a value of a matrix that the shell would read": (
        "{agent: testing, run: 'echo {{ matrix.a }}', matrix: {a: [$(reboot)]}}",
        "the shell interprets",
        '"$NAME"',
    ),
    "a template that is not closed": ("{agent: testing, run: 'echo {{ matrix.a'}", "not closed", "{{"),
    "a template that computes": ("{agent: testing, run: ['{{ 1 + 1 }}']}", "not a valid reference", "{{"),
    "a template that calls": ("{agent: testing, run: ['{{ inputs.a.upper() }}']}", "not a valid reference", "{{"),
    "a template of nothing known": ("{agent: testing, run: ['{{ need.a }}']}", "not a known reference", '"needs"'),
    "a template of an unknown need": (
        "{agent: testing, run: ['{{ needs.b.result }}'], needs: [a]}",
        "not in the needs",
        "Add b",
    ),
    "a template without result": (
        "{agent: testing, run: ['{{ needs.a.count }}'], needs: [a]}",
        "not a known reference",
        ".result",
    ),
    "a template of an unknown input": ("{agent: testing, run: ['{{ inputs.a }}']}", "not an input", "Declare"),
    "a template of an unknown axis": ("{agent: testing, run: '{{ matrix.a }}'}", "this sortie's matrix", "matrix"),
    "a need in cwd": (
        "{agent: testing, run: x, needs: [a], cwd: '{{ needs.a.result }}'}",
        "cannot be used here",
        "inputs",
    ),
    "a matrix value with a point": ("{agent: testing, run: x, matrix: {v: [3.10]}}", "the number 3.1", "quotes"),
    "an axis without values": ("{agent: testing, run: x, matrix: {v: []}}", "empty", "list of values"),
    "an unknown axis in exclude": ("{agent: testing, run: x, matrix: {v: [1], exclude: [{w: 1}]}}", '"w" is not', "v"),
    "an exclude of nothing": ("{agent: testing, run: x, matrix: {v: [1], exclude: [{v: 2}]}}", "nothing", "Remove"),
    "an include of half": ("{agent: testing, run: x, matrix: {v: [1], w: [1], include: [{v: 2}]}}", "has v", "every"),
    "a combination twice": (
        "{agent: testing, run: x, matrix: {v: [1], include: [{v: 1}]}}",
        'makes "one[v=1]" twice',
        "Remove",
    ),
    "a template within a matrix": (
        "{agent: testing, run: x, matrix: {v: ['{{ inputs.a }}']}}",
        "is not a valid value",
        "{{",
    ),
    "a sortie that is no mapping": ("make test", "must be a mapping", "{agent: testing"),
    "a tag": ("{agent: testing, run: !!python/object:os.system x}", "tag", "Remove"),
    "infinity": ("{agent: testing, driver: scripted, with: {a: .inf}}", "not a number", "finite"),
    "NaN": ("{agent: testing, driver: scripted, with: {a: NaN}}", "not a number", "finite"),
    "a huge number": ("{agent: testing, driver: scripted, with: {a: 12345678901234567890}}", "too large", "quotes"),
    "NUL": ('{agent: testing, run: "a\\0b"}', "NUL", "Remove"),
    "a merge key": ("{agent: testing, run: x, <<: {a: b}}", "merge key", "defaults:"),
    "half a surrogate pair": ('{agent: testing, run: "\\ud800"}', "cannot be read", ""),
}


@pytest.mark.parametrize("sortie, message, fix", SORTIES.values(), ids=SORTIES)
def test_a_problem_in_a_sortie_is_reported_with_its_line_and_fix(sortie: str, message: str, fix: str) -> None:
    others = f"\na: {OK}" if "[a" in sortie or "needs: a" in sortie else ""
    found = problems(whole(f"one: {sortie}{others}"))
    assert any(item.line == 3 and message in item.message and fix in item.fix for item in found), [
        str(item) for item in found
    ]


PLANS = {
    "no mission": (f"sorties:\n  a: {OK}\n", 1, '"mission" is missing', "name"),
    "no sorties": ("mission: M\n", 1, '"sorties" is missing', ""),
    "empty sorties": ("mission: M\nsorties: {}\n", 2, "empty", ""),
    "a budget": (f"mission: M\nbudget: {{usd: 1}}\nsorties:\n  a: {OK}\n", 2, "not available yet", "Remove"),
    "an unknown key": (f"mission: M\nsortie: 1\nsorties:\n  a: {OK}\n", 2, '"sortie" is not known', '"sorties"'),
    "a bad name": (f"mission: M\nsorties:\n  a b: {OK}\n", 3, "not a valid name for a sortie", "letters"),
    "a name twice": (f"mission: M\nsorties:\n  a: {OK}\n  b: {OK}\n  a: {OK}\n", 5, "first on line 3", "rename"),
    "another on_failure": (f"mission: M\non_failure: stp\nsorties:\n  a: {OK}\n", 2, "not an allowed value", '"stop"'),
    "a template in the name": (
        f"mission: '{{{{ inputs.a }}}}'\nsorties:\n  a: {OK}\n",
        1,
        "cannot be used here",
        "Write",
    ),
    "an unknown default": (f"mission: M\ndefaults:\n  run: x\nsorties:\n  a: {OK}\n", 3, "not known", "timeout"),
    "a bad default": (f"mission: M\ndefaults:\n  timeout: 5x\nsorties:\n  a: {OK}\n", 3, "not a duration", "90s"),
    "a type of input": (
        f"mission: M\ninputs:\n  a: {{type: text}}\nsorties:\n  a: {OK}\n",
        3,
        "not an allowed value",
        "string",
    ),
    "a default of another type": (
        f"mission: M\ninputs:\n  a: {{type: integer, default: x}}\nsorties:\n  a: {OK}\n",
        3,
        "not of type integer",
        "Change",
    ),
    "a default beside enum": (
        f"mission: M\ninputs:\n  a: {{enum: [x], default: y}}\nsorties:\n  a: {OK}\n",
        3,
        "is not in enum",
        "Use",
    ),
    "required with a default": (
        f"mission: M\ninputs:\n  a: {{required: true, default: y}}\nsorties:\n  a: {OK}\n",
        3,
        "cannot be required",
        "Remove",
    ),
    "two inputs with one variable": (
        f"mission: M\ninputs:\n  a: {{}}\n  A: {{}}\nsorties:\n  a: {OK}\n",
        4,
        "FLEET_INPUT_A",
        "Rename",
    ),
    "two needs with one variable": (
        f"mission: M\nsorties:\n  a-b: {OK}\n  a_b: {OK}\n  c: {{agent: testing, run: x, needs: [a-b, a_b]}}\n",
        5,
        "FLEET_NEED_A_B",
        "Rename",
    ),
    "a need that is no combination": (
        (
            "mission: M\nsorties:\n  m: {agent: testing, run: x, matrix: {v: [1]}}\n"
            "  a: {agent: testing, run: x, needs: ['m[v=2]']}\n"
        ),
        4,
        'is not in the matrix of "m"',
        "m[v=1]",
    ),
    "two limits for one key": (
        (
            "mission: M\nsorties:\n  a: {agent: testing, run: x, concurrency: {key: db, limit: 1}}\n"
            "  b: {agent: testing, run: x, concurrency: {key: db, limit: 2}}\n"
        ),
        4,
        "limit 2 here and 1 in a",
        "one limit",
    ),
    "a cycle": (
        (
            "mission: M\nsorties:\n  a: {agent: testing, run: x, needs: [b]}\n  b:\n    agent: testing\n    run: x\n"
            "    needs:\n      - c\n  c: {agent: testing, run: x, needs: [a]}\n"
        ),
        3,
        "a → b → c → a",
        "Remove one",
    ),
    "a template without quotes": (
        "mission: M\nsorties:\n  a:\n    run: {{ matrix.a }}\n",
        4,
        "a key is expected",
        "quotes",
    ),
    "a template without quotes in a flow": (
        "mission: M\nsorties:\n  a: {agent: testing, run: echo {{ matrix.a }}}\n",
        3,
        "cannot be read",
        "quotes",
    ),
    "a tab": ("mission: M\nsorties:\n\ta: x\n", 3, "cannot be read", "spaces"),
    "an open bracket": ("mission: M\nsorties: [\n", 3, "cannot be read", "brackets"),
    "two documents": (f"mission: M\nsorties:\n  a: {OK}\n---\nmission: N\n", 4, "second document", "one document"),
    "a list": ("- a\n", None, "not a mapping", "mission:"),
    "nothing": ("", None, "empty", "mission:"),
    "an unknown alias": (f"mission: M\nsorties:\n  a: {OK}\n  b: *a\n", 4, "no anchor", "quotes"),
    "an alias within itself": ("mission: M\nsorties: &s\n  a: *s\n", 3, "contains itself", "Write the value out"),
    "a control character": (f"mission: M\nobjective: a\x07b\nsorties:\n  a: {OK}\n", 2, "U+0007", "Remove"),
}


@pytest.mark.parametrize("text, line, message, fix", PLANS.values(), ids=PLANS)
def test_a_problem_in_a_plan_is_reported_with_its_line_and_fix(
    text: str, line: int | None, message: str, fix: str
) -> None:
    found = problems(text)
    assert any((line is None or item.line == line) and message in item.message and fix in item.fix for item in found), [
        str(item) for item in found
    ]


def test_all_problems_are_reported_at_once_in_the_order_of_their_lines() -> None:
    text = """\
mission: M
budget: 3
inputs:
  n: {type: integer, default: x}
sorties:
  a: {agent: testng, needs: [b, inventry], run: "echo {{ needs.b.result }}"}
  b: {agent: testing, needs: [a], run: x, timeout: 10 minutes, allow_failure: maybe}
  inventory: {agent: testing, run: x, outputs: [/etc]}
  m: {agent: testing, run: "{{ matrix.v }}", matrix: {v: [a b]}}
"""
    found = problems(text)
    assert [item.line for item in found] == [2, 4, 6, 6, 6, 6, 7, 7, 8, 9]
    lines = [str(item) for item in found]
    assert 'line 6, sorties.a.needs: "inventry" is not a sortie of this plan. Did you mean "inventory"?' in lines
    assert any("a → b → a" in line for line in lines)


def test_a_problem_has_a_json_form() -> None:
    (found,) = problems(whole("a: {agent: testing, run: x, retires: 1}"))
    assert found.as_json() == {
        "line": 3,
        "column": 31,
        "where": "sorties.a.retires",
        "message": 'The key "retires" is not known.',
        "fix": 'Did you mean "retry"?',
    }


def test_problems_of_a_plan_from_data_are_reported_by_their_place() -> None:
    data = {"mission": "M", "sorties": {"a": {"agent": "testing", "run": "x", "timeout": "soon"}}}
    with pytest.raises(plan.PlanError) as excinfo:
        plan.from_data(data=data, context=CONTEXT)
    (found,) = excinfo.value.problems
    assert (found.line, found.where) == (None, "sorties.a.timeout")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**30, "a\0b", "\ud800", b"x", {1: 2}, object()])
def test_data_that_is_not_json_is_refused(value: object) -> None:
    data = {"mission": "M", "sorties": {"a": {"agent": "testing", "driver": "scripted", "with": {"a": value}}}}
    with pytest.raises(plan.PlanError):
        plan.from_data(data=data, context=CONTEXT)


def test_ten_thousand_errors_are_a_bounded_list_with_a_count_of_the_rest() -> None:
    text = whole("\n".join(f"s{number}: {{agent: testng, run: x}}" for number in range(9_000)))
    found = problems(text)
    assert len(found) == 1_001
    assert "8,000 more errors" in found[-1].message


def test_a_control_character_of_the_plan_never_reaches_the_terminal() -> None:
    assert "\x1b" not in "".join(map(str, problems(whole('a: {agent: "\\e[31mred", run: x}'))))


def test_a_valid_plan_has_no_problems() -> None:
    assert load(whole(f"a: {OK}")).sorties[0].key == "a"
