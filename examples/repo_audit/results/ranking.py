"""Ranks what to fix first. The functions are pure; the report displays the following text (`explained()`).

score = severity × confidence × place × (1 + heat) × reach

- severity  critical 100, high 40, medium 12, low 4, info 1; one step lower if place is below 1
- confidence  0 to 1, of the rule; if several tools agree, 1 − (1 − a)(1 − b)
- place  0.35 in tests and examples, 0.6 in documents, 1 elsewhere and for rules about tests, documents or upkeep
- heat  0 to 1, how often the file was changed recently, relative to the most changed file
- reach  1 + log2(lines touched + places − 1) ÷ 10, at most 2; applied once per item, with all its places
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from examples.repo_audit.results.findings import Finding, Rule, Severity

WEIGHTS: dict[Severity, float] = {"critical": 100, "high": 40, "medium": 12, "low": 4, "info": 1}
PLACES = {"product": 1.0, "docs": 0.6, "test": 0.35, "example": 0.35}
_MILDER: dict[Severity, Severity] = {
    "critical": "high",
    "high": "medium",
    "medium": "low",
    "low": "info",
    "info": "info",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """One place of an item."""

    file: str
    line: int
    lines: int
    detail: str
    role: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One problem with all its places. `count` may exceed `len(locations)`, because results are capped."""

    rule: Rule
    severity: Severity
    confidence: float
    score: float
    locations: tuple[Location, ...]
    count: int
    tools: tuple[str, ...]

    @property
    def title(self) -> str:
        return self.rule.title + (" (in tests and examples)" if self.outside_product else "")

    @property
    def outside_product(self) -> bool:
        return self.rule.place == "product" and self.locations[0].role in ("test", "example")


class _Member(NamedTuple):
    finding: Finding
    rule: Rule
    confidence: float
    tools: tuple[str, ...]


def reach(touched: int) -> float:
    """A factor for the extent of a problem: 1 for one line, 1.5 for 32 lines, at most 2."""
    return 1 + min(1.0, math.log2(max(1, touched)) / 10)


def rank(
    *, rules: Mapping[str, Rule], findings: Sequence[Finding], counts: Mapping[str, int], heat: Mapping[str, float]
) -> list[Item]:
    """Items by descending score. The order of `findings` does not matter."""
    groups: dict[tuple[str, str], list[_Member]] = defaultdict(list)
    for member in _merged(rules, findings):
        groups[_group(member.rule, member.finding)].append(member)
    dropped = _dropped(findings, counts, groups)
    items = [_item(members, heat, dropped.get(key, 0)) for key, members in groups.items()]
    return sorted(items, key=lambda item: (-item.score, item.rule.id, item.locations[0].file, item.locations[0].line))


def severity_in(rule: Rule, role: str) -> Severity:
    """The severity of a rule in a role: one step lower in tests, examples and documents, unless its place is "any"."""
    return rule.severity if rule.place == "any" or role == "product" else _MILDER[rule.severity]


def explained() -> list[str]:
    """The docstring of this module without its first paragraph, for the report."""
    return [line.removeprefix("- ") for line in (__doc__ or "").splitlines()[2:] if line]


def _merged(rules: Mapping[str, Rule], findings: Iterable[Finding]) -> list[_Member]:
    """Findings of one topic on one line, merged: the text of the more severe rule, the combined confidence."""
    places: dict[tuple[str, str, int, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        rule = rules[finding["rule"]]
        # Without a topic, or for a whole file, only findings with the same detail are the same problem.
        exact = "" if rule.topic and finding["line"] else finding["detail"]
        places[(rule.topic or rule.id, finding["file"], finding["line"], exact)].append(finding)
    merged = []
    for duplicates in places.values():
        duplicates.sort(key=lambda finding: _most_severe_first(rules[finding["rule"]], finding))
        by_tool: dict[str, float] = {}
        for finding in duplicates:
            rule = rules[finding["rule"]]
            by_tool[rule.tool] = max(by_tool.get(rule.tool, 0.0), rule.confidence * finding["certainty"])
        doubt = math.prod(1 - confidence for confidence in sorted(by_tool.values()))
        merged.append(_Member(duplicates[0], rules[duplicates[0]["rule"]], 1 - doubt, tuple(sorted(by_tool))))
    return merged


def _most_severe_first(rule: Rule, finding: Finding) -> tuple[float, float, str, str, str, int]:
    confidence = rule.confidence * finding["certainty"]
    return -WEIGHTS[rule.severity], -confidence, rule.id, finding["detail"], finding["role"], -finding["lines"]


def _group(rule: Rule, finding: Finding) -> tuple[str, str]:
    """The key of a finding's item: one item per rule, and another for its findings in tests and examples."""
    is_secondary = finding["role"] in ("test", "example") and rule.place == "product"
    return rule.id, "aside" if is_secondary else "product"


def _dropped(
    findings: Iterable[Finding], counts: Mapping[str, int], groups: Mapping[tuple[str, str], Sequence[_Member]]
) -> dict[tuple[str, str], int]:
    """The number of findings that were counted but not kept, by the largest group of their rule."""
    listed = Counter(finding["rule"] for finding in findings)
    dropped: dict[tuple[str, str], int] = {}
    for rule, count in counts.items():
        if (more := count - listed[rule]) > 0:
            of_rule = sorted(key for key in groups if key[0] == rule)
            if of_rule:
                dropped[max(of_rule, key=lambda key: len(groups[key]))] = more
    return dropped


def _item(members: Sequence[_Member], heat: Mapping[str, float], dropped: int) -> Item:
    rule = members[0].rule
    confidence = max(member.confidence for member in members)
    locations = [_location(member, heat) for member in members]
    locations.sort(key=lambda location: (-location.score, location.file, location.line, location.detail))
    best = locations[0]
    return Item(
        rule=rule,
        severity=severity_in(rule, best.role),
        confidence=confidence,
        score=best.score * reach(best.lines + len(members) + dropped - 1),
        locations=tuple(locations),
        count=len(members) + dropped,
        tools=tuple(sorted({tool for member in members for tool in member.tools})),
    )


def _location(member: _Member, heat: Mapping[str, float]) -> Location:
    finding, rule = member.finding, member.rule
    severity = severity_in(rule, finding["role"])
    place = 1.0 if rule.place == "any" else PLACES.get(finding["role"], 1.0)
    value = WEIGHTS[severity] * member.confidence * place * (1 + heat.get(finding["file"], 0.0))
    return Location(
        file=finding["file"],
        line=finding["line"],
        lines=finding["lines"],
        detail=finding["detail"],
        role=finding["role"],
        score=value,
    )
