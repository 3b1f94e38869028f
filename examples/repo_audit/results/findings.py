"""The results of the audit's sorties: rules and findings.

A rule says once what is wrong, why it matters and how to fix it; a finding says where. So 5,000 findings of ten rules
stay small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, TypedDict, cast, get_args

Severity = Literal["critical", "high", "medium", "low", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
Area = Literal["security", "correctness", "performance", "testing", "frontend", "documentation", "upkeep"]
AREAS: tuple[Area, ...] = get_args(Area)
MAX_PER_RULE = 150  # findings of one rule that a sortie keeps; the others are only counted
MAX_DETAIL = 300  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of problem.

    `confidence` (0 to 1): how often such a finding is right. `topic`: shared by rules of several tools for the same
    problem; findings of one topic on one line are merged. `place`: whether the problem is less severe in tests, documents
    and examples ("product") or equally severe everywhere ("any").
    """

    id: str
    title: str
    area: Area
    severity: Severity
    confidence: float
    why: str
    fix: str
    topic: str = ""
    place: Literal["product", "any"] = "product"

    @property
    def tool(self) -> str:
        return self.id.partition(":")[0]


class Finding(TypedDict):
    """A place where a rule is violated.

    `line` is 0 for a whole file, `file` is empty for the whole repository. `lines`: how many lines are affected.
    `certainty` (0 to 1) is multiplied with the rule's confidence: how certain the tool itself was.
    """

    rule: str
    file: str
    line: int
    lines: int
    role: str
    detail: str
    certainty: float


NOT_FOLLOWED = (
    "Code, SQL and commands are checked in the expression that builds or executes them. Values are not followed through "
    "variables, so text that is first stored in a variable, and extended or executed later, can be missed."
)


class Outcome(TypedDict):
    """The result of a sortie that produces findings.

    `counts` (by rule) are complete even if `findings` are capped. `checked_count`: files; of `history`, commits.
    """

    rules: dict[str, dict[str, str | float]]
    findings: list[Finding]
    counts: dict[str, int]
    checked_count: int
    notes: list[str]
    figures: dict[str, object]


class Ledger:
    """Collects the findings of a sortie, with limits."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        self._findings: list[Finding] = []
        self._counts: Counter[str] = Counter()
        self.checked_count = 0
        self.notes: list[str] = []
        self.figures: dict[str, object] = {}

    def add(
        self,
        rule: Rule,
        *,
        file: str = "",
        line: int = 0,
        lines: int = 1,
        role: str = "product",
        detail: str = "",
        certainty: float = 1.0,
    ) -> None:
        self._rules[rule.id] = rule
        self._counts[rule.id] += 1
        if self._counts[rule.id] <= MAX_PER_RULE:
            finding = Finding(
                rule=rule.id, file=file, line=line, lines=lines, role=role, detail=clean(detail), certainty=certainty
            )
            self._findings.append(finding)

    def outcome(self) -> Outcome:
        return {
            "rules": {name: asdict(rule) for name, rule in self._rules.items()},
            "findings": self._findings,
            "counts": dict(self._counts),
            "checked_count": self.checked_count,
            "notes": self.notes,
            "figures": self.figures,
        }


def clean(text: str) -> str:
    """Text of a repository on one line, shortened, without characters that a terminal or a database cannot handle."""
    line = " ".join(text.split())
    printable = "".join(char if char.isprintable() else "·" for char in line)
    return printable if len(printable) <= MAX_DETAIL else printable[: MAX_DETAIL - 1] + "…"


def rules_of(outcome: Mapping[str, object]) -> dict[str, Rule]:
    """The rules of an outcome that was decoded from JSON."""
    raw = cast(dict[str, dict[str, object]], outcome.get("rules") or {})
    return {name: Rule(**fields) for name, fields in raw.items()}  # type: ignore[arg-type]
