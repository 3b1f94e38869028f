"""The page of production readiness shows what was measured, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from scripts import audit, evidence, readiness
from scripts.evidence import MeasuredValue
from tests.support.paths import CHECKOUT

JUNIT = """<?xml version="1.0"?><testsuites><testsuite name="abc123" timestamp="2026-01-31T10:00:00+00:00">
<testcase classname="tests.security.test_a" name="test_one"/>
<testcase classname="tests.security.test_a" name="test_two[x]"><skipped message="no"/></testcase>
<testcase classname="tests.security_of_another" name="test_three"><failure message="bad"/></testcase>
<testcase classname="tests.fleet.test_b" name="test_four"><error message="bad"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout in which nothing has been measured."""
    for folder in ("build", "bench", "docs", "requirements"):
        (tmp_path / folder).mkdir()
    (tmp_path / "docs" / "settings.md").write_text("| `FLEET_LIMIT_IP` | rate | `30/m` | requests |\n")
    for name in audit.PINNED:
        (tmp_path / name).write_text("")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def write(root: Path, name: str, document: Any) -> None:
    (root / name).write_text(document if isinstance(document, str) else json.dumps(document))


def record(measures: dict[str, Any]) -> dict[str, Any]:
    return {"recorded": "2026-01-31", "commit": "abc123", "machine": {"cores": 2}, "measures": measures}


def test_an_unmeasured_criterion_is_shown_as_such_and_prevents_the_verdict_go(root: Path) -> None:
    write(root, "docs/settings.md", "")
    page = readiness.render(readiness.collect(root))
    assert page.count("| not measured | **no-go** |") == len(readiness.CRITERIA)
    assert "**No-go.**" in page


def test_a_value_comes_from_the_last_run_or_otherwise_from_the_baseline(root: Path) -> None:
    source = evidence.bench_figure("spawn", "p95_s", "{:.2f} s", met=readiness.below(5))
    assert source(root) is None
    write(root, "bench/baseline.json", record({"spawn": {"p95_s": 6.0}}))
    assert source(root) == MeasuredValue("6.00 s", False, "2026-01-31", "abc123")
    write(root, "build/bench.json", record({"spawn": {"p95_s": 0.12}}))
    assert source(root) == MeasuredValue("0.12 s", True, "2026-01-31", "abc123")


def test_a_regression_is_named(root: Path) -> None:
    write(root, "bench/baseline.json", record({"w1": {"ratio": 7.0}}))
    assert evidence.no_regression(root) is None
    write(root, "build/bench.json", record({"w1": {"ratio": 3.0}}))
    assert evidence.no_regression(root) == MeasuredValue("worse: w1.ratio", False, "2026-01-31", "abc123")


def test_results_of_tests_are_counted_by_module_with_the_commit_of_the_run(root: Path) -> None:
    assert evidence.results_of("tests", report=evidence.TESTS)(root) is None
    write(root, evidence.TESTS, JUNIT)
    assert evidence.results_of("tests")(root) == MeasuredValue(
        "1 passed, 2 failed, 1 skipped", False, "2026-01-31", "abc123"
    )
    of_security = MeasuredValue("1 passed, 0 failed, 1 skipped", True, "2026-01-31", "abc123")
    assert evidence.results_of("tests.security")(root) == of_security
    assert evidence.results_of("tests.absent")(root) is None


def test_skipped_tests_do_not_count_as_evidence(root: Path) -> None:
    write(root, evidence.TESTS, JUNIT)
    only_skipped = evidence.results_of("tests.security.test_a.test_two")(root)
    assert only_skipped is not None
    assert not only_skipped.met


def test_the_newest_report_of_a_run_counts(root: Path) -> None:
    write(root, evidence.TESTS, JUNIT)
    write(root, evidence.COVERAGE_TESTS, JUNIT.replace("abc123", "def456"))
    os.utime(root / evidence.TESTS, (1, 1))
    newest = evidence.results_of("tests")(root)
    assert newest is not None
    assert newest.commit == "def456"


def test_coverage_counts_lines_and_branches_of_its_packages(root: Path) -> None:
    summary = {"num_statements": 80, "covered_lines": 80, "num_branches": 20, "covered_branches": 11}
    other = {"num_statements": 80, "covered_lines": 0}
    files = {"fleet/services/a.py": {"summary": summary}, "agents/b.py": {"summary": other}}
    write(root, "build/coverage.json", {"meta": {"timestamp": "2026-01-31T10:00:00"}, "files": files})
    assert evidence.coverage("fleet", floor=90)(root) is None  # no run says which commit it is of
    write(root, evidence.COVERAGE_TESTS, JUNIT)
    assert evidence.coverage("fleet", floor=90)(root) == MeasuredValue("91.0 %", True, "2026-01-31", "abc123")
    assert evidence.coverage("fleet", "agents", floor=90)(root) == MeasuredValue(
        "50.6 %", False, "2026-01-31", "abc123"
    )


def test_the_criterion_of_advisories_is_not_met_if_one_affects_a_pin(root: Path) -> None:
    assert evidence.advisories(root) is None
    advisory = {"package": "leaky", "version": "2.0", "ids": ["CVE-2026-1"]}
    write(root, audit.SNAPSHOT, {"date": "2026-01-31", "pins": ["leaky==2.0"], "advisories": [advisory]})
    without = evidence.advisories(root)
    assert (without.value, without.met) == ("0 for 1 pins", True) if without else False
    write(root, "requirements.txt", "leaky==2.0 \\\n    --hash=sha256:00\n")
    advisories = evidence.advisories(root)
    assert (
        (advisories.value, advisories.met, advisories.date) == ("1 for 1 pins", False, "2026-01-31")
        if advisories
        else False
    )


def test_a_criterion_is_not_met_if_its_default_changed(root: Path) -> None:
    item = evidence.default_setting("FLEET_LIMIT_IP", "100/m")(root)
    assert item is not None
    assert (item.value, item.met) == ("default: 30/m", False)


def test_a_value_stays_until_it_is_measured_again(root: Path) -> None:
    previous = MeasuredValue("0.12 s", True, "2025-12-31", "old")
    write(root, readiness.STORE, {"spawn": asdict(previous), "gone": asdict(previous)})
    assert readiness.collect(root)["spawn"] == previous
    assert "gone" not in readiness.collect(root)
    write(root, "build/bench.json", record({"spawn": {"p95_s": 9.0}}))
    write(root, "bench/baseline.json", record({}))
    assert readiness.collect(root)["spawn"] == MeasuredValue("9.00 s", False, "2026-01-31", "abc123")


def test_the_verdict_is_go_only_if_every_criterion_is_met() -> None:
    all_met = {criterion.id: MeasuredValue("1", True, "2026-01-31", "abc123") for criterion in readiness.CRITERIA}
    assert "**Go.**" in readiness.render(all_met)
    first = readiness.CRITERIA[0].id
    assert "**No-go.**" in readiness.render({**all_met, first: MeasuredValue("1", False, "2026-01-31", "abc123")})
    assert "**No-go.**" in readiness.render({id: item for id, item in all_met.items() if id != first})


def test_the_page_shows_exactly_the_committed_evidence() -> None:
    committed = {
        id: MeasuredValue(**fields) for id, fields in json.loads((CHECKOUT / readiness.STORE).read_text()).items()
    }
    assert (CHECKOUT / readiness.PAGE).read_text() == readiness.render(committed), "run `make readiness`"
    assert set(committed) <= {criterion.id for criterion in readiness.CRITERIA}


def test_each_criterion_names_a_command_of_the_makefile_and_has_an_id_of_its_own() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    for criterion in readiness.CRITERIA:
        assert f"\n{criterion.command.removeprefix('make ')}: " in makefile
    assert len({criterion.id for criterion in readiness.CRITERIA}) == len(readiness.CRITERIA)
