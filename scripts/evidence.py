"""Reads what was measured about the project from the files that `make` targets write; for scripts/readiness.py.

Each source returns None if nothing was measured.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench import baseline
from scripts import audit

# `make test` and `make coverage` write the first two, `make drills` and `make test-containers` the others.
TESTS, COVERAGE_TESTS = "build/tests.xml", "build/coverage-tests.xml"
DRILLS, CONTAINERS = "build/drills.xml", "build/containers.xml"


@dataclass(frozen=True)
class MeasuredValue:
    """A measured value, whether it satisfies its criterion, and the day and commit of the measurement."""

    value: str
    met: bool
    date: str
    commit: str


Source = Callable[[Path], MeasuredValue | None]


def bench_figure(measure: str, key: str, text: str, *, met: Callable[[float], bool]) -> Source:
    """A figure of the last full `make bench`, or else of the baseline. `text` formats it: "{:.0f} ms"."""

    def read(root: Path) -> MeasuredValue | None:
        for path in (root / "build" / "bench.json", root / "bench" / "baseline.json"):
            run = json.loads(path.read_text()) if path.exists() else {}
            value = run.get("measures", {}).get(measure, {}).get(key)
            if value is not None:
                return MeasuredValue(text.format(value), met(value), run["recorded"], run["commit"])
        return None

    return read


def no_regression(root: Path) -> MeasuredValue | None:
    """The comparison of the last full `make bench` with the baseline."""
    run_path, baseline_path = root / "build" / "bench.json", root / "bench" / "baseline.json"
    if not run_path.exists():
        return None
    run = json.loads(run_path.read_text())
    comparison = baseline.compare(run=run, baseline=json.loads(baseline_path.read_text()))
    names = ", ".join(line.partition(":")[0] for line in comparison.regressions)
    value = f"worse: {names}" if names else "no figure is worse"
    return MeasuredValue(value, not names, run["recorded"], run["commit"])


def results_of(*prefixes: str, report: str = TESTS) -> Source:
    """The results of all tests whose dotted name begins with one of `prefixes`, in the newest report of a run.

    None if the run had no test of one of the prefixes. A report is JUnit's XML. The name of its suite is the commit: see
    the Makefile.
    """

    def read(root: Path) -> MeasuredValue | None:
        candidates = [report, COVERAGE_TESTS] if report == TESTS else [report]
        paths = [root / name for name in candidates if (root / name).exists()]
        if not paths:
            return None
        suite = _suite(max(paths, key=lambda path: path.stat().st_mtime))
        cases = [case for case in suite.iter("testcase") if _matches(case, prefixes)]
        if not cases or not all(any(_matches(case, [prefix]) for case in cases) for prefix in prefixes):
            return None
        failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
        skipped = sum(case.find("skipped") is not None for case in cases)
        value = f"{len(cases) - failed - skipped} passed, {failed} failed"
        if skipped:
            value += f", {skipped} skipped"
        met = not failed and skipped < len(cases)
        return MeasuredValue(value, met, suite.attrib["timestamp"][:10], suite.attrib["name"])

    return read


def _suite(path: Path) -> ElementTree.Element:
    root = ElementTree.parse(path).getroot()
    return root if root.tag == "testsuite" else next(root.iter("testsuite"))


def _matches(case: ElementTree.Element, prefixes: Iterable[str]) -> bool:
    name = f"{case.attrib.get('classname', '')}.{case.attrib.get('name', '')}"
    return any(name == prefix or name.startswith((f"{prefix}.", f"{prefix}[")) for prefix in prefixes)


def coverage(*packages: str, floor: int) -> Source:
    """The share of lines and branches of these packages ("fleet/services") that `make coverage` covered."""

    def read(root: Path) -> MeasuredValue | None:
        path, report = root / "build" / "coverage.json", root / COVERAGE_TESTS
        if not path.exists() or not report.exists():
            return None
        document = json.loads(path.read_text())
        files = [
            file["summary"]
            for name, file in document["files"].items()
            if any(name.startswith(f"{package}/") for package in packages)
        ]
        parts = sum(file["num_statements"] + file.get("num_branches", 0) for file in files)
        if not parts:
            return None
        covered = sum(file["covered_lines"] + file.get("covered_branches", 0) for file in files)
        share = 100 * covered / parts
        commit = _suite(report).attrib["name"]
        return MeasuredValue(f"{share:.1f} %", share > floor, document["meta"]["timestamp"][:10], commit)

    return read


def advisories(root: Path) -> MeasuredValue | None:
    """The snapshot of `make audit`: how many advisories affect the current pins and are not ignored."""
    path = root / audit.SNAPSHOT
    if not path.exists():
        return None
    snapshot: Mapping[str, Any] = json.loads(path.read_text())
    affecting = audit.affecting(root, snapshot)
    value = f"{len(affecting)} for {len(snapshot['pins'])} pins"
    return MeasuredValue(value, not affecting, snapshot["date"], commit(root))


def static_analysis(root: Path) -> MeasuredValue | None:
    """What bandit finds in the product, of medium or high severity: the same call as in `make check`."""
    packages = ("fleet", "agents", "missions", "checkpoints", "examples")
    options = ("-q", "-ll", "-s", "B604", "-f", "json", "-r")
    result = subprocess.run(
        [sys.executable, "-m", "bandit", *options, *packages], cwd=root, capture_output=True, text=True, check=False
    )
    try:
        report = json.loads(result.stdout)
    except ValueError:
        return None  # bandit is not installed, or did not run
    if not report["metrics"]["_totals"]["loc"]:
        return None  # it found no code to read
    findings = report["results"]
    high = sum(finding["issue_severity"] == "HIGH" for finding in findings)
    value = f"{high} high, {len(findings) - high} medium"
    return MeasuredValue(value, not findings, datetime.now(UTC).date().isoformat(), commit(root))


def default_setting(name: str, expected: str) -> Source:
    """The default of a setting, read from docs/settings.md, which a test compares with the code."""

    def read(root: Path) -> MeasuredValue | None:
        row = re.search(rf"^\| `{name}` \| \w+ \| `([^`]+)` \|", (root / "docs" / "settings.md").read_text(), re.M)
        if row is None:
            return None
        today = datetime.now(UTC).date().isoformat()
        return MeasuredValue(f"default: {row[1]}", row[1] == expected, today, commit(root))

    return read


def commit(root: Path) -> str:
    result = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return result.stdout.strip()
