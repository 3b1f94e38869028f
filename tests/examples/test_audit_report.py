"""The report is self-contained, and nothing in a repository can become markup in it."""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from examples.repo_audit.reporting import charts, markdown, markup, page, sarif
from examples.repo_audit.results import gathering
from tests.examples import audit_runs

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
NAMES = {
    "web/<img src=x onerror=alert(1)>.html": "<html><head></head><body><img src=a></body></html>",
    '"><script>alert(1)</script>.py'.replace("/", "∕"): "print(undefined)\n",
    "a](javascript:alert(1)).md": "# x\n[" + EVIL + "](gone.md)\n",
    "`$(id)`.py": "# TODO: " + EVIL + "\nprint(undefined)\n",
    "README.md": "# R\n" + "words " * 50 + '\n\n[x](<gone "><svg onload=alert(3)>.md>)\n',
}


class Reader(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture
def hostile(tmp_path: Path) -> audit_runs.AuditRun:
    return audit_runs.run_audit(audit_runs.repository(tmp_path / "evil<b>", NAMES), tmp_path / "out")


def test_the_page_loads_nothing_and_runs_nothing(hostile: audit_runs.AuditRun) -> None:
    text = hostile.text("report.html")
    for tag, attributes in read(text).elements:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "form", "a", "image", "use", "base"}
        assert not {"src", "href", "srcset", "action", "xlink:href"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    policy = [attributes.get("content") for tag, attributes in read(text).elements if tag == "meta"]
    assert "default-src 'none'; style-src 'unsafe-inline'" in policy


def test_hostile_names_and_texts_are_shown_as_text(hostile: audit_runs.AuditRun) -> None:
    text = hostile.text("report.html")
    assert "&lt;img src=x onerror=alert(1)&gt;.html" in text
    assert "<svg onload" not in text
    assert hostile.results["report"]["findings"] >= 5


def test_markdown_of_hostile_names_holds_no_html_and_no_link(hostile: audit_runs.AuditRun) -> None:
    outside_code = re.sub(r"(`+).+?\1", "", hostile.text("report.md"))
    assert not re.search(r"(?<!\\)<\w", outside_code)
    assert not re.search(r"(?<!\\)\]\(", outside_code)


def test_text_cannot_escape_a_code_span() -> None:
    assert markdown.code("a") == "`a`"
    assert markdown.code("`$(id)`.py") == "`` `$(id)`.py ``"


def test_elements_escape_text() -> None:
    assert markup.tag("b", EVIL, title='" x="') == (
        '<b title="&quot; x=&quot;">' + EVIL.replace("<", "&lt;").replace(">", "&gt;") + "</b>"
    )
    assert markup.tag("p", markup.tag("i", "x"), None, [1, 2.5]) == "<p><i>x</i>12.5</p>"


def test_findings_are_also_written_as_json(hostile: audit_runs.AuditRun) -> None:
    found = json.loads(hostile.text("findings.json"))
    assert len(found["items"]) == found["things"]
    log = json.loads(hostile.text("findings.sarif"))
    run = log["runs"][0]
    known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} <= known
    assert all(result["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1 for result in run["results"])
    uris = [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in run["results"]]
    assert not [uri for uri in uris if re.search(r'[<>" ]', uri)]


def test_the_result_contains_the_requested_number_of_findings(tmp_path: Path) -> None:
    place = audit_runs.repository(tmp_path / "r", NAMES)
    run = audit_runs.run_audit(place, tmp_path / "out", top=2)
    assert len(run.results["report"]["top"]) == 2
    assert "more are in report.html" in run.text("report.md")


def audit(**keys: Any) -> gathering.Audit:
    needs = {"inventory": {"root": "/x/shop", "files": 3, "lines": 10, "languages": [], "skipped": {}, "head": None}}
    return gathering.gather(needs={**needs, **keys}, repository="/x/shop")


def outcome(severity: str, count: int = 1) -> dict[str, Any]:
    rule = {
        "id": "t:r", "title": "T", "area": "security", "severity": severity, "confidence": 0.9, "why": "w", "fix": "f",
        "topic": "", "place": "product",
    }  # fmt: skip
    place = {"rule": "t:r", "file": "a", "line": 1, "lines": 1, "role": "product", "detail": "", "certainty": 1.0}
    findings = [{**place, "line": number} for number in range(count)]
    return {
        "rules": {"t:r": rule},
        "findings": findings,
        "counts": {"t:r": count},
        "checked_count": 1,
        "notes": [],
        "figures": {},
    }


@pytest.mark.parametrize(
    ("severity", "words"),
    [
        ("critical", "One thing cannot wait."),
        ("high", "One thing should be fixed this week."),
        ("medium", "Nothing urgent was found."),
        ("low", "In good order."),
        ("info", "In good order."),
    ],
)
def test_the_headline_follows_the_most_severe_finding(severity: str, words: str) -> None:
    headline, because = gathering.verdict(audit(python=outcome(severity)))
    assert (headline, "these are" in because) == (words, False)


def test_the_headline_states_the_total() -> None:
    other = json.loads(json.dumps(outcome("low")).replace("t:r", "t:other"))
    mixed = audit(python=outcome("high"), pages=other)
    assert gathering.verdict(mixed)[0] == "One of the 2 things found should be fixed this week."


@pytest.mark.parametrize(("grave", "title"), [(3, "Do these first"), (7, "Do these first: 5 of the 7")])
def test_the_page_lists_first_what_the_headline_counts(grave: int, title: str) -> None:
    def group(severity: str, number: int) -> list[Any]:
        text = json.dumps(outcome(severity))
        return [json.loads(text.replace("t:r", f"t:{severity}{n}")) for n in range(number)]

    report = audit(python=group("high", grave) + group("medium", 9))
    head, _, first = page.render(report).partition(f"<h2>{title}</h2>")
    assert f"of the {grave + 9} things found should be fixed this week." in head
    assert first.partition("</section>")[0].count("<h3>") == min(grave, page.MAX_FIRST)


def test_a_clean_repository_is_reported_as_such() -> None:
    clean = audit()
    assert gathering.verdict(clean) == ("In good order.", "None of the checks found anything.")
    read(page.render(clean))
    assert sarif.render(clean.items)["runs"][0]["results"] == []


def test_the_results_of_a_group_are_combined() -> None:
    both = audit(secrets=[outcome("high"), None, outcome("high", 3)])
    assert both.checked_count["secrets"] == 2
    assert both.by_severity["high"] == 3  # line 0 was found twice


def test_implausible_times_do_not_stop_the_report() -> None:
    needs = {"commit": "0" * 40, "at": 99_999_999_999_999, "subject": "x", "branch": "", "shallow": True}
    inventory = {"root": "/x", "files": 1, "lines": 1, "languages": [], "skipped": {}, "head": needs}
    report = gathering.gather(needs={"inventory": inventory}, repository="/x")
    assert "This clone is shallow" in page.render(report)
    assert report.created_at <= time.time()


@pytest.mark.parametrize(
    "commits, branches", [([30] * 5, [60] * 5), ([0] * 5, [0] * 5), ([30, 30, 29, 1, 1], [61, 60, 60, 2, 2])]
)
def test_each_of_the_five_hotspots_has_a_visible_number(commits: list[int], branches: list[int]) -> None:
    points = [
        {"file": f"{n}.py", "commits": c, "branches": b, "lines": 9}
        for n, (c, b) in enumerate(zip(commits, branches, strict=True))
    ]
    chart = str(charts.hotspots(points))
    numbers = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle" class="count">(\d)<', chart)
    assert sorted(number for _, _, number in numbers) == ["1", "2", "3", "4", "5"]
    places = [(float(x), float(y)) for x, y, _ in numbers]
    assert all(math.dist(item, other) > charts.MARKER for item, other in itertools.combinations(places, 2))
    assert all(0 < x < charts.WIDTH for x, _ in places)
