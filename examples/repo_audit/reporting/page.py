"""The audit as one self-contained HTML page: inline style and charts, no scripts, no external resources."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.repo_audit.reporting import charts
from examples.repo_audit.reporting.markup import Markup, Part, tag
from examples.repo_audit.results import gathering, ranking
from examples.repo_audit.results.findings import AREAS, SEVERITIES
from examples.repo_audit.results.gathering import Audit
from examples.repo_audit.results.ranking import Item, Location

MAX_FIRST = 5  # items at the top
MAX_LOCATIONS = 30  # places shown for one item; findings.json has all of them
_STYLE = Path(__file__).with_name("report.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(audit: Audit) -> str:
    """The whole page."""
    headline, below = gathering.verdict(audit)
    style = Markup(_STYLE.read_text())
    body = tag(
        "main",
        tag(
            "header",
            tag("p", _facts(audit), class_="over"),
            tag("h1", headline),
            tag("p", below, class_="lead"),
            _severity_counts(audit),
        ),
        _first(audit),
        _charts(audit),
        _all_findings(audit.items),
        _coverage(audit),
        _ranking_explanation(),
        tag(
            "footer",
            f"Created on {_day(audit.created_at)}. No data left this machine, and nothing was written into the repository.",
        ),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"Audit of {audit.name}"),
        tag("style", style),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _facts(audit: Audit) -> Part:
    head: dict[str, Any] = audit.inventory.get("head") or {}
    facts = [f"{audit.inventory.get('files', 0):,} files", f"{audit.inventory.get('lines', 0):,} lines"]
    if commits := audit.figures["history"].get("commits"):
        people = audit.figures["history"].get("people", 0)
        facts.append(f"{commits:,} commits by {people:,} {'person' if people == 1 else 'people'}")
    at = (
        f", {head.get('branch') or 'detached'} at {str(head['commit'])[:10]} of {_day(head['at'])}"
        if head
        else ", no commits yet"
    )
    return [tag("b", audit.name), at, " · ", " · ".join(facts)]


def _severity_counts(audit: Audit) -> Part:
    entries = [
        tag("li", _mark(name), tag("b", f"{audit.by_severity[name]:,}"), f" {name}", class_=name)
        for name in SEVERITIES
        if audit.by_severity[name]
    ]
    return tag("ul", entries, class_="counts", aria_label="Findings by severity") if entries else None


def _first(audit: Audit) -> Part:
    """The items that the headline counts; if nothing is urgent, those with the highest scores."""
    urgent = gathering.urgent(audit)
    items = (urgent or audit.items)[:MAX_FIRST]
    if not items:
        return None
    if not urgent:
        title = "Where to start"
    elif len(urgent) > MAX_FIRST:
        title = f"Do these first: {MAX_FIRST} of the {len(urgent)}"
    else:
        title = "Do these first" if len(urgent) > 1 else "Do this first"
    entries = [
        tag(
            "li",
            tag("div", tag("h3", item.title), _chip(item), class_="head"),
            tag("p", item.rule.why),
            tag("p", tag("b", "Fix: "), item.rule.fix, class_="fix"),
            _locations(item, 4),
            class_=item.severity,
        )
        for item in items
    ]
    return tag(
        "section",
        tag("h2", title),
        tag("ol", entries, class_="first"),
    )


def _charts(audit: Audit) -> Part:
    history, crossed = audit.figures["history"], audit.figures["hotspots"]
    figures: list[Part] = []
    if audit.total:
        figures.append(
            _figure(
                "Findings by area",
                "On a square-root scale, so that many minor findings do not hide a severe one",
                charts.by_area(audit.by_area),
            )
        )
    points = crossed.get("points") or []
    if points:
        figures.append(
            _figure(
                "Hotspots",
                "Product files: those in the upper right corner are complex and often changed",
                charts.hotspots(points),
            )
        )
    if audit.inventory.get("languages"):
        figures.append(
            _figure(
                "Languages",
                "By lines, without generated and vendored files",
                charts.by_language(audit.inventory["languages"]),
            )
        )
    if any(history.get("weeks") or []):
        figures.append(_figure("Activity", "Commits by week", charts.activity(history["weeks"])))
    if crossed.get("spread"):
        figures.append(_figure("Complexity", "Functions by number of branches", charts.spread(crossed["spread"])))
    return tag("section", tag("h2", "Overview"), tag("div", figures, class_="charts")) if figures else None


def _all_findings(items: Sequence[Item]) -> Part:
    if not items:
        return None
    ranked = {id(item): number for number, item in enumerate(items, 1)}
    areas: list[Part] = []
    for area in sorted(
        AREAS, key=lambda area: min((ranked[id(item)] for item in items if item.rule.area == area), default=1_000_000)
    ):
        of_area = [item for item in items if item.rule.area == area]
        if of_area:
            places = sum(item.count for item in of_area)
            summary = tag(
                "summary",
                area.capitalize(),
                tag("span", f" · {number(len(of_area), 'thing')}, {number(places, 'place')}"),
            )
            areas.append(tag("details", summary, [_item(item, ranked[id(item)]) for item in of_area], class_="area"))
    return tag(
        "section",
        tag("h2", "All findings"),
        tag("p", "By area; the number is the rank across all areas.", class_="soft"),
        areas,
    )


def _item(item: Item, rank: int) -> Markup:
    summary = tag(
        "summary",
        tag("span", f"{rank}.", class_="rank"),
        tag("span", item.title, class_="title"),
        _chip(item),
        tag("span", number(item.count, "place"), class_="soft"),
    )
    body = [
        tag("p", item.rule.why),
        tag("p", tag("b", "Fix: "), item.rule.fix, class_="fix"),
        _locations(item, MAX_LOCATIONS),
        tag("p", f"{item.rule.id} · score {item.score:.1f}", class_="soft"),
    ]
    return tag("details", summary, tag("div", body, class_="body"), class_=f"item {item.severity}")


def _locations(item: Item, most: int) -> Part:
    locations = [location for location in item.locations if location.file]
    if not locations:
        return tag("p", item.locations[0].detail, class_="soft") if item.locations[0].detail else None
    entries: list[Part] = [tag("li", tag("code", where(location)), _detail(location)) for location in locations[:most]]
    if item.count > len(entries):
        entries.append(tag("li", f"and {item.count - len(entries):,} more", class_="soft"))
    return tag("ul", entries, class_="spots")


def _coverage(audit: Audit) -> Part:
    rows = []
    for name, words in gathering.CHECKS.items():
        if name in audit.checked_count and name not in ("history", "hotspots"):
            coverage = "did not run" if name in audit.absent else f"{audit.checked_count[name]:,} files"
            rows.append(
                tag(
                    "tr",
                    tag("td", words.capitalize() if words[0].islower() else words),
                    tag("td", coverage, class_="number"),
                )
            )
    skipped = [
        tag("tr", tag("td", reason.capitalize()), tag("td", f"{count:,}", class_="number"))
        for reason, count in audit.inventory.get("skipped", {}).items()
    ]
    notes = remarks(audit)
    return tag(
        "section",
        tag("h2", "What was checked"),
        tag("table", tag("tbody", rows)),
        [tag("h3", "Skipped", style="margin-top: 1.5rem"), tag("table", tag("tbody", skipped))] if skipped else None,
        [
            tag("h3", "Notes", style="margin-top: 1.5rem"),
            tag("ul", [tag("li", note) for note in notes], class_="notes"),
        ]
        if notes
        else None,
    )


def remarks(audit: Audit) -> list[str]:
    """What a reader should know before trusting the figures."""
    notes = []
    if audit.absent:
        notes.append(
            f"These checks have no result, so the report does not cover them: {', '.join(audit.absent)}."
            " The mission's log says why."
        )
    if audit.signed is not None:
        notes.append(
            "The newest commit has a good signature."
            if audit.signed
            else "The newest commit has no signature that could be checked here, which is common."
        )
    if (audit.inventory.get("head") or {}).get("shallow"):
        notes.append("This clone is shallow: older history is missing. `git fetch --unshallow` fetches it.")
    if audit.store_kib is not None and audit.store_kib > 1_000:
        notes.append(f"The object store takes {audit.store_kib / 1024:,.0f} MB.")
    tests = audit.figures["tests"]
    if tests.get("product_lines"):
        notes.append(
            f"Tests: {tests.get('test_lines', 0):,} lines for {tests['product_lines']:,} lines of product code,"
            f" about {tests.get('cases', 0):,} cases."
        )
    links = audit.figures["prose"].get("links")
    if links:
        notes.append(f"{links:,} links and images in Markdown were checked; those to other sites were not followed.")
    return notes + audit.notes


def where(location: Location) -> str:
    return f"{location.file}:{location.line}" if location.line else location.file


def _ranking_explanation() -> Part:
    return tag(
        "details",
        tag("summary", "How items are ranked"),
        [tag("p", line) for line in ranking.explained()],
        class_="area",
        style="margin-top: 2rem",
    )


def _figure(title: str, below: str, chart: Markup) -> Markup:
    return tag("figure", tag("figcaption", title, tag("span", below)), chart)


def _chip(item: Item) -> Markup:
    certainty = "certain" if item.confidence >= 0.8 else "likely" if item.confidence >= 0.55 else "to be checked"
    return tag("span", _mark(item.severity), f"{item.severity} · {certainty} · {', '.join(item.tools)}", class_="chip")


def _mark(severity: str) -> Markup:
    return tag("span", class_=f"mark {severity}", aria_hidden="true")


def _detail(location: Location) -> Part:
    """The detail of a place, with text between backticks as code."""
    if not location.detail or location.detail == location.file:
        return None
    pieces = location.detail.split("`")
    if len(pieces) % 2 == 0:
        return [" ", location.detail]
    return [" ", [tag("code", piece) if number % 2 else piece for number, piece in enumerate(pieces)]]


def number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _day(seconds: float) -> str:
    return time.strftime("%-d %B %Y", time.gmtime(max(0.0, min(float(seconds), 32_503_680_000.0))))
