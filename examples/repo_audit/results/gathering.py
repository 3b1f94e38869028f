"""Combines the results of all sorties for the report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from examples.repo_audit.results import findings, ranking
from examples.repo_audit.results.findings import Finding, Rule
from examples.repo_audit.results.ranking import Item

# What each sortie checks, as the report says it.
CHECKS = {
    "inventory": "files and languages",
    "history": "git history: changes, people, activity",
    "complexity": "branches of functions (lizard)",
    "hotspots": "complexity against change",
    "python": "likely bugs (ruff), dead code (vulture)",
    "secrets": "secrets (detect-secrets), dangerous Python (bandit)",
    "scripts": "dangerous JavaScript and TypeScript (tree-sitter)",
    "pages": "HTML, templates and CSS",
    "prose": "README, licence, Markdown links",
    "tests": "tests: presence, quality, coverage of hot files",
    "upkeep": "TODO comments, build artifacts, CI, containers, links",
    "provenance": "signature of the newest commit",
    "store": "size of the object store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The contents of the report: items, figures and notes."""

    name: str
    created_at: float  # Unix seconds
    inventory: Mapping[str, Any]
    items: list[Item]
    notes: list[str]
    absent: list[str]  # sorties without a result
    checked_count: Mapping[str, int]
    figures: Mapping[str, Mapping[str, Any]]
    signed: bool | None  # whether the newest commit is; None without commits
    store_kib: int | None
    by_severity: Mapping[str, int] = field(default_factory=dict)
    by_area: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.by_severity.values())


def gather(*, needs: Mapping[str, Any], repository: object) -> Audit:
    """The audit from the results of the sorties; `absent` names those without a result."""
    results = {name: outcomes(needs.get(name)) for name in CHECKS if name not in ("inventory", "provenance", "store")}
    inventory = needs.get("inventory") or {}
    rules: dict[str, Rule] = {}
    all_findings: list[Finding] = []
    counts: Counter[str] = Counter()
    notes: list[str] = []
    for outcomes_of_sortie in results.values():
        for outcome in outcomes_of_sortie:
            rules.update(findings.rules_of(outcome))
            all_findings.extend(outcome["findings"])
            counts.update(outcome["counts"])
            notes.extend(note for note in outcome["notes"] if note not in notes)
    figures = {name: (group[0].get("figures") or {}) if group else {} for name, group in results.items()}
    items = ranking.rank(rules=rules, findings=all_findings, counts=counts, heat=figures["history"].get("heat", {}))
    commits = bool(inventory.get("head"))
    return Audit(
        name=str(inventory.get("root") or repository).rstrip("/").rpartition("/")[2] or "repository",
        created_at=time.time(),
        inventory=inventory,
        items=items,
        notes=notes,
        absent=[name for name, group in results.items() if not group and _expected(name, inventory)],
        checked_count={name: sum(outcome["checked_count"] for outcome in group) for name, group in results.items()},
        figures=figures,
        signed=needs.get("provenance") is not None if commits else None,
        store_kib=_store(needs.get("store")),
        by_severity={name: sum(i.count for i in items if i.severity == name) for name in findings.SEVERITIES},
        by_area={
            area: {
                name: sum(i.count for i in items if i.rule.area == area and i.severity == name)
                for name in findings.SEVERITIES
            }
            for area in findings.AREAS
        },
    )


def urgent(audit: Audit) -> list[Item]:
    """The items that the headline counts: those of the highest severity, if that is critical or high."""
    for severity in ("critical", "high"):
        if items := [item for item in audit.items if item.severity == severity]:
            return items
    return []


def verdict(audit: Audit) -> tuple[str, str]:
    """The headline, and the sentence below it."""
    # Items only in tests and examples are not urgent, unless they are severe even there.
    number = Counter(
        item.severity for item in audit.items if not item.outside_product or item.severity in ("critical", "high")
    )
    if not audit.inventory.get("files"):
        return "There is nothing here yet.", "Git tracks no readable files, so there was nothing to check."
    if number["critical"]:
        return _things(
            number["critical"], "cannot wait.", "cannot wait.", of=len(audit.items)
        ), f"Somebody may already be able to exploit {'it' if number['critical'] == 1 else 'them'}."
    if number["high"]:
        return _things(number["high"], *["should be fixed this week."] * 2, of=len(audit.items)), (
            "Nothing critical was found; "
            f"{'this is' if number['high'] == 1 else 'these are'} serious enough to come before new work."
        )
    if number["medium"]:
        return "Nothing urgent was found.", _things(
            number["medium"], "is worth an afternoon soon.", "are worth an afternoon each.", of=len(audit.items)
        )
    if audit.items:
        return "In good order.", "Only minor things were found; fix one whenever you work nearby."
    return "In good order.", "None of the checks found anything."


def _things(number: int, singular: str, plural: str, *, of: int) -> str:
    """A sentence with the count, and with the total if the list below continues with less severe items."""
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    count = words[number] if number < len(words) else str(number)
    noun = ("thing" if number == 1 else "things") if number == of else f"of the {of} things found"
    return f"{count} {noun} {singular if number == 1 else plural}"


def outcomes(group: Any) -> list[dict[str, Any]]:
    """The results of a sortie or of a group of sorties, without missing ones."""
    members = group if isinstance(group, list) else [group]
    return [member for member in members if isinstance(member, dict) and "findings" in member]


def _expected(name: str, inventory: Mapping[str, Any]) -> bool:
    """Whether a sortie should have a result: complexity and secrets only run if there are files for them."""
    if name == "complexity":
        return any(language.get("code") for language in inventory.get("languages", []))
    return name != "secrets" or bool(inventory.get("files"))


def _store(result: Any) -> int | None:
    """KiB of loose and packed objects, from `git count-objects -v`."""
    text = result.get("output", "") if isinstance(result, dict) else ""
    sizes = dict(line.split(": ", 1) for line in str(text).splitlines() if ": " in line)
    numbers = [int(sizes[name]) for name in ("size", "size-pack") if sizes.get(name, "").isdigit()]
    return sum(numbers) if numbers else None
