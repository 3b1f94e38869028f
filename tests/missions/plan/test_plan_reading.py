"""YAML and JSON are read alike, in one pass of bounded length and depth."""

from __future__ import annotations

import contextlib
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from missions import plan
from tests.missions.plan.plans import CONTEXT, load, problems, whole

DATA = {"mission": "Grüße 🚀", "sorties": {"a": {"agent": "testing", "run": "echo \\ud83d", "env": {"A": '"\t\n/'}}}}


def test_json_reads_like_yaml() -> None:
    for text in (json.dumps(DATA), json.dumps(DATA, ensure_ascii=False), json.dumps(DATA, indent="\t")):
        parsed = load(text)
        assert parsed == load(text.encode()) == plan.from_data(data=DATA, context=CONTEXT)
        assert parsed.name == "Grüße 🚀"
        assert parsed.sorties[0].run == "echo \\ud83d"
        assert parsed.sorties[0].env == {"A": '"\t\n/'}


def test_a_problem_in_json_has_its_line() -> None:
    text = json.dumps({"mission": "M", "sorties": {"a": {"agent": "testing", "run": "x", "timeout": "soon"}}}, indent=1)
    (found,) = problems(text)
    assert text.splitlines()[(found.line or 0) - 1].strip() == '"timeout": "soon"'


def test_a_byte_order_mark_is_ignored() -> None:
    assert load(b"\xef\xbb\xbf" + whole("a: {agent: testing, run: x}").encode()).name == "M"


def test_words_with_a_special_meaning_in_other_yaml_readers_are_text() -> None:
    text = whole("a: {agent: testing, driver: scripted, with: {v: [yes, no, on, 2030-01-01, 1_000, 0o7, 007, 1:30]}}")
    values = ["yes", "no", "on", "2030-01-01", "1_000", "0o7", "007", "1:30"]
    assert load(text).sorties[0].arguments == {"v": values}


def test_values_have_the_types_of_json() -> None:
    text = whole(
        "a: {agent: testing, driver: scripted, with: {v: [1, -2, 1.5, 1e3, true, False, null, ~, '1', \"x\"]}}"
    )
    assert load(text).sorties[0].arguments == {"v": [1, -2, 1.5, 1000.0, True, False, None, None, "1", "x"]}


def test_an_alias_stands_for_what_it_names() -> None:
    text = whole("a: {agent: testing, run: x, retry: &r {max_attempts: 4}}\nb: {agent: testing, run: x, retry: *r}")
    assert {spec.retry.max_attempts for spec in load(text).sorties} == {4}


def test_a_problem_under_an_anchor_is_reported_once() -> None:
    text = whole(
        "a: {agent: testing, run: x, retry: &r {max_attempts: 0}}\n"
        + "\n".join(f"b{n}: {{agent: testing, run: x, retry: *r}}" for n in range(50))
    )
    assert len(problems(text)) == 1


def bomb(levels: int) -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        name, before = chr(97 + level), chr(96 + level)
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


def long_text_by_alias() -> str:
    aliases = ", ".join(["*t"] * 1_000)
    return whole(f"a: {{agent: testing, driver: scripted, with: {{t: &t {'x' * 100_000}, u: [{aliases}]}}}}")


@pytest.mark.parametrize(
    "text, word",
    [
        (bomb(12), "values"),
        (long_text_by_alias(), "characters"),
        ("a: " + "[" * 100_000, "nested"),
        ("- " * 100_000, "nested"),
        ("{a: " * 100_000, "nested"),
        ('{"a":' * 100_000, "nested"),
        ("mission: [" + "a," * 100_000, "read"),
        ("a" * 1_000_001, "bytes"),
        (b"mission: \xff\xfe", "UTF-8"),
        ("mission: M".encode("utf-16"), "UTF-8"),
        (b"\x00" * 100, "U+0000"),
        ("%YAML 9.9\n---\na: b", "read"),
    ],
)
def test_an_alias_bomb_is_refused_with_little_memory(text: str | bytes, word: str) -> None:
    tracemalloc.start()
    found = problems(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert word in found[0].message
    assert peak < 100_000_000


def test_a_plan_of_fifty_megabytes_is_refused_before_it_is_read() -> None:
    text = b"x" * 50_000_000
    tracemalloc.start()
    found = problems(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "more than 1,000,000 bytes" in found[0].message
    assert peak < 1_000_000


def test_a_plan_with_too_many_sorties_is_refused() -> None:
    text = whole("\n".join(f"s{number}: {{}}" for number in range(10_001)))
    assert "10,001 sorties" in problems(text)[0].message


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300), st.text("{}[]:,-*&!\"'|>%@#? \n\tab01.", max_size=80)))
def test_any_text_gives_a_plan_or_a_plan_error(text: str | bytes) -> None:
    problems(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "agent",
    "needs",
    "run",
    "call",
    "prompt",
    "driver",
    "with",
    "matrix",
    "if",
    "retry",
    "timeout",
    "silence",
    "alert_silence",
]
KEYS += ["priority", "concurrency", "verify", "env", "cwd", "outputs", "run_at", "allow_failure"]
SORTIE = st.dictionaries(st.sampled_from(KEYS), JSON | st.sampled_from(["testing", "a", ["a"], "x"]), max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["inputs", "defaults", "on_failure", "priority", "objective"]), JSON, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "c d"]), SORTIE | JSON, max_size=3) | JSON,
)
def test_any_data_gives_a_plan_or_a_plan_error(top: dict[str, object], sorties: object) -> None:
    data = {"mission": "M", **top, "sorties": sorties}
    with contextlib.suppress(plan.PlanError):
        plan.from_data(data=data, context=CONTEXT)
    problems(json.dumps(data))
