"""Properties of the order in which findings are to be fixed."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from examples.repo_audit.results import ranking
from examples.repo_audit.results.findings import SEVERITIES, Finding, Rule

RULE = Rule(
    id="tool:rule", title="T", area="security", severity="medium", confidence=0.6, why="w", fix="f", topic="one-topic"
)
RULES = {
    rule.id: rule
    for rule in (
        replace(RULE, id="a:1", severity="critical", confidence=0.9, topic="secret"),
        replace(RULE, id="b:1", severity="high", confidence=0.5, topic="secret"),
        replace(RULE, id="a:2", severity="medium", confidence=0.7, topic="", place="any"),
        replace(RULE, id="b:2", severity="low", confidence=0.4, topic=""),
        replace(RULE, id="c:3", severity="info", confidence=1.0, topic=""),
    )
}
found = st.builds(
    Finding,
    rule=st.sampled_from(sorted(RULES)),
    file=st.sampled_from(["a.py", "b.py", "docs/c.md", ""]),
    line=st.integers(0, 4),
    lines=st.integers(1, 400),
    role=st.sampled_from(["product", "test", "docs", "example"]),
    detail=st.sampled_from(["", "one", "two"]),
    certainty=st.sampled_from([0.5, 1.0]),
)
heats = st.dictionaries(st.sampled_from(["a.py", "b.py", "docs/c.md"]), st.floats(0, 1))


def finding(**keys: object) -> Finding:
    base = {
        "rule": "tool:rule",
        "file": "a.py",
        "line": 1,
        "lines": 1,
        "role": "product",
        "detail": "",
        "certainty": 1.0,
    }
    return Finding(**{**base, **keys})  # type: ignore[typeddict-item]


def only(rule: Rule = RULE, heat: float = 0.0, **keys: object) -> ranking.Item:
    (item,) = ranking.rank(
        rules={rule.id: rule}, findings=[finding(rule=rule.id, **keys)], counts={}, heat={"a.py": heat}
    )
    return item


@given(st.lists(found, max_size=30), heats, st.randoms(use_true_random=False))
def test_the_order_of_the_findings_makes_no_difference(
    findings: list[Finding], heat: dict[str, float], random: random.Random
) -> None:
    shuffled = list(findings)
    random.shuffle(shuffled)
    ranked = ranking.rank(rules=RULES, findings=findings, counts={}, heat=heat)
    assert ranking.rank(rules=RULES, findings=shuffled, counts={}, heat=heat) == ranked
    assert [item.score for item in ranked] == sorted((item.score for item in ranked), reverse=True)


@given(st.lists(found, max_size=20), heats)
def test_a_duplicate_finding_changes_nothing(findings: list[Finding], heat: dict[str, float]) -> None:
    ranked = ranking.rank(rules=RULES, findings=findings, counts={}, heat=heat)
    assert ranking.rank(rules=RULES, findings=findings * 2, counts={}, heat=heat) == ranked


@given(st.lists(found, min_size=1, max_size=20))
def test_no_location_is_lost_or_counted_twice(findings: list[Finding]) -> None:
    items = ranking.rank(rules=RULES, findings=findings, counts={}, heat={})
    values = [(location.file, location.line) for item in items for location in item.locations]
    assert set(values) == {(entry["file"], entry["line"]) for entry in findings}
    assert sum(item.count for item in items) == len(values) <= len(findings)


@given(st.floats(0.1, 1), st.floats(0.1, 1), st.floats(0, 1), st.floats(0, 1), st.integers(1, 500), st.integers(1, 500))
def test_more_confidence_heat_or_reach_never_lowers_the_score(
    sure: float, surer: float, cool: float, hot: float, short: int, long: int
) -> None:
    below = only(replace(RULE, confidence=min(sure, surer)), heat=min(cool, hot), lines=min(short, long))
    above = only(replace(RULE, confidence=max(sure, surer)), heat=max(cool, hot), lines=max(short, long))
    assert below.score <= above.score


def test_a_more_severe_problem_comes_first_among_equals() -> None:
    scores = [only(replace(RULE, severity=severity)).score for severity in SEVERITIES]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(SEVERITIES)


def test_a_problem_counts_less_in_tests_unless_the_rule_is_about_them() -> None:
    assert only(role="test").score < only(role="docs").score < only().score
    assert only(role="test").severity == "low"
    about_tests = replace(RULE, place="any")
    assert only(about_tests, role="test").score == only(about_tests).score


def test_the_same_problem_from_two_tools_is_merged_with_more_confidence() -> None:
    other = replace(RULE, id="other:rule", confidence=0.5)
    findings = [finding(), finding(rule="other:rule", detail="said otherwise")]
    (item,) = ranking.rank(rules={RULE.id: RULE, other.id: other}, findings=findings, counts={}, heat={})
    assert item.tools == ("other", "tool")
    assert abs(item.confidence - 0.8) < 1e-9
    assert item.count == 1


def test_two_problems_without_a_topic_on_one_line_stay_separate() -> None:
    plain = replace(RULE, topic="")
    findings = [finding(detail="x is unused"), finding(detail="y is unused")]
    (item,) = ranking.rank(rules={plain.id: plain}, findings=findings, counts={}, heat={})
    assert item.count == 2


def test_omitted_findings_are_counted() -> None:
    (item,) = ranking.rank(rules={RULE.id: RULE}, findings=[finding()], counts={RULE.id: 4_000}, heat={})
    assert (item.count, len(item.locations)) == (4_000, 1)
    assert item.score > only().score


def test_the_report_explains_the_order() -> None:
    text = " ".join(ranking.explained())
    for word in ("severity", "confidence", "place", "heat", "reach"):
        assert word in text
