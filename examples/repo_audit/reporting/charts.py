"""The report's charts as inline SVG. Their colours are CSS variables of the page, for light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from examples.repo_audit.reporting.markup import Markup, Part, tag
from examples.repo_audit.repository import languages
from examples.repo_audit.results.findings import SEVERITIES

WIDTH = 440
NUMBERED = 5  # hotspots that the chart numbers and lists
MARKER = 9.0  # the radius of their numbered dots


def _svg(height: int, label: str, *parts: Part) -> Markup:
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=label)


def by_area(by_area: Mapping[str, Mapping[str, int]]) -> Markup:
    """Findings by area, each bar divided by severity.

    The scale is a square root, so that a hundred minor findings do not hide a severe one.
    """
    areas = sorted(by_area, key=lambda area: -sum(by_area[area].values()))
    most = math.sqrt(max((sum(by_area[area].values()) for area in areas), default=0) or 1)
    rows: list[Part] = []
    for number, area in enumerate(areas):
        y, total, x = 8 + number * 30, sum(by_area[area].values()), 112.0
        rows.append(tag("text", area, x=104, y=y + 14, text_anchor="end", class_="label"))
        full = 280 * math.sqrt(total) / most
        for severity in SEVERITIES:
            if count := by_area[area][severity]:
                width = max(3.0, full * count / total)
                title = tag("title", f"{area}: {count:,} {severity}")
                rows.append(tag("rect", title, x=x, y=y, width=width, height=20, class_=f"fill-{severity}"))
                x += width
        rows.append(tag("text", f"{total:,}", x=x + 6, y=y + 14, class_="small"))
    return _svg(len(areas) * 30 + 8, "Findings by area and severity", rows)


def hotspots(points: Sequence[Mapping[str, Any]]) -> Markup:
    """Branches (y) against commits (x) of each file, both logarithmic; the top five are numbered."""
    left, bottom, top, right = 36, 250, 26, WIDTH - 16
    most_x = math.log1p(max((point["commits"] for point in points), default=1)) or 1.0
    most_y = math.log1p(max((point["branches"] for point in points), default=1)) or 1.0
    parts: list[Part] = [
        tag("line", x1=left, y1=bottom, x2=right, y2=bottom, class_="axis"),
        tag("line", x1=left, y1=top, x2=left, y2=bottom, class_="axis"),
        tag("text", "changed more often →", x=right, y=bottom + 32, text_anchor="end", class_="small"),
        tag("text", "↑ more branches", x=4, y=12, class_="small"),
    ]
    for value in _ticks(math.expm1(most_x)):
        x = left + (right - left) * math.log1p(value) / most_x
        parts.append(tag("text", f"{value:,}", x=x, y=bottom + 15, text_anchor="middle", class_="small"))
    for value in _ticks(math.expm1(most_y)):
        y = bottom - (bottom - top) * math.log1p(value) / most_y
        parts.append(tag("line", x1=left, y1=y, x2=right, y2=y, class_="grid"))
        parts.append(tag("text", f"{value:,}", x=left - 5, y=y + 4, text_anchor="end", class_="small"))
    positions = [
        (
            left + (right - left) * math.log1p(point["commits"]) / most_x,
            bottom - (bottom - top) * math.log1p(point["branches"]) / most_y,
        )
        for point in points
    ]
    positions[:NUMBERED] = _spread_out(positions[:NUMBERED], towards=(left + right) / 2)
    for number, (point, (x, y)) in reversed(list(enumerate(zip(points, positions, strict=True), 1))):
        words = f"{point['file']}: {point['commits']:,} commits, {point['branches']:,} branches"
        radius = MARKER if number <= NUMBERED else 2.5 + min(5.0, math.sqrt(point["lines"]) / 8)
        parts.append(
            tag("circle", tag("title", words), cx=x, cy=y, r=radius, class_="dot hot" if number <= NUMBERED else "dot")
        )
        if number <= NUMBERED:
            parts.append(tag("text", number, x=x, y=y + 4, text_anchor="middle", class_="count"))
    for number, point in enumerate(points[:NUMBERED], 1):
        name = point["file"] if len(point["file"]) < 58 else "…" + point["file"][-56:]
        parts.append(tag("text", f"{number}  {name}", x=4, y=bottom + 36 + number * 18, class_="small"))
    return _svg(bottom + 46 + NUMBERED * 18, "Files by complexity and number of changes", parts)


def _spread_out(positions: Sequence[tuple[float, float]], *, towards: float) -> list[tuple[float, float]]:
    """The positions of the numbered dots. Dots that would cover an earlier one move towards the chart's middle."""
    spread_out: list[tuple[float, float]] = []
    for x, y in positions:
        step = 2 * MARKER if x < towards else -2 * MARKER
        while any(math.dist((x, y), other) < 2 * MARKER - 1 for other in spread_out):
            x += step
        spread_out.append((x, y))
    return spread_out


def activity(weeks: Sequence[int]) -> Markup:
    """Commits in each of the last 104 weeks up to the newest commit."""
    height, bottom, most = 130, 104, max(weeks, default=0) or 1
    step = (WIDTH - 8) / max(1, len(weeks))
    bars: list[Part] = []
    for number, count in enumerate(weeks):
        ago = len(weeks) - 1 - number
        if count:
            title = tag(
                "title",
                f"{count:,} commits, {ago} weeks before the newest" if ago else f"{count:,} commits in the newest week",
            )
            size = max(2.0, 92 * count / most)
            bars.append(
                tag("rect", title, x=4 + number * step, y=bottom - size, width=step - 1, height=size, class_="bar")
            )
    return _svg(
        height,
        "Commits by week over two years",
        tag("line", x1=4, y1=bottom + 0.5, x2=WIDTH - 4, y2=bottom + 0.5, class_="axis"),
        bars,
        tag("text", "two years ago", x=4, y=bottom + 18, class_="small"),
        tag("text", "newest commit", x=WIDTH - 4, y=bottom + 18, text_anchor="end", class_="small"),
        tag("text", f"at most {most:,} a week", x=WIDTH / 2, y=bottom + 18, text_anchor="middle", class_="small"),
    )


def by_language(languages_found: Sequence[Mapping[str, Any]]) -> Markup:
    """Lines by language: one bar, and a legend of the largest eight."""
    total = sum(language["lines"] for language in languages_found) or 1
    entries = list(languages_found[:8])
    rest = total - sum(language["lines"] for language in entries)
    if rest:
        entries.append({"name": "others", "lines": rest})
    x, bars, legend = 0.0, [], []
    for number, language in enumerate(entries):
        style = languages.BY_NAME.get(language["name"])
        colour = style.colour if style else "#9a9a9a"
        width = WIDTH * language["lines"] / total
        title = tag("title", f"{language['name']}: {language['lines']:,} lines")
        bars.append(tag("rect", title, x=x, y=4, width=max(0.5, width - 1), height=22, fill=colour))
        x += width
        column, row = (number % 2) * 222, 50 + number // 2 * 22
        share = 100 * language["lines"] / total
        legend.append(tag("circle", cx=column + 6, cy=row - 4, r=5, fill=colour))
        words = f"{language['name']} {share:.0f} %" if share >= 1 else f"{language['name']} below 1 %"
        legend.append(tag("text", words, x=column + 18, y=row, class_="label"))
    return _svg(44 + (len(entries) + 1) // 2 * 22, "Lines by language", bars, legend)


def spread(bands: Mapping[str, int]) -> Markup:
    """How many functions have how many branches."""
    names = ("1–5", "6–10", "11–15", "16–30", "over 30")
    total = sum(bands.values()) or 1
    most = max(bands.values(), default=0) or 1
    rows: list[Part] = []
    for number, name in enumerate(names):
        count, y = bands.get(name, 0), 6 + number * 24
        width = 270 * math.sqrt(count / most)
        tone = ("fill-info", "fill-info", "fill-low", "fill-medium", "fill-high")[number]
        rows.append(tag("text", name, x=64, y=y + 13, text_anchor="end", class_="label"))
        rows.append(
            tag("rect", tag("title", f"{count:,} functions"), x=72, y=y, width=max(1.0, width), height=17, class_=tone)
        )
        share = f"{count:,}" + (f" ({100 * count / total:.0f} %)" if count * 200 > total else "")
        rows.append(tag("text", share, x=78 + width, y=y + 13, class_="small"))
    return _svg(130, "Functions by number of branches", rows)


def _ticks(most: float) -> list[int]:
    return [value for value in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000) if value <= most * 1.02]
