"""Missions, their sorties and their output as text, and as JSON that is written while it is read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.core.management.base import OutputWrapper

from fleet import errors
from fleet.console import documents, lines
from missions import queries
from missions.models import Mission, Output, Sortie
from missions.states import SortieState

LOOK_S = 0.3
MOST_ROWS = 50  # a mission with more sorties is summed up, unless all are asked for

Write = Callable[[str], object]


def mission_as_json(*, mission: Mission, states: Sequence[str] | None, write: Write) -> None:
    """The summary with `items` and `artifacts`; a mission of any size takes little memory."""
    files = (queries.artifact(file) for file in queries.artifacts(mission).iterator())
    items = queries.items(mission, states=states, visible=Mission.objects.all())
    documents.write(write, queries.summary(mission), {"items": items, "artifacts": files})


def mission_as_text(*, mission: Mission, states: Sequence[str] | None, everything: bool, out: OutputWrapper) -> None:
    summary = queries.summary(mission)
    width = lines.columns(out)
    title = f"{mission.ref}  {lines.one(mission.name)}  {mission.state}  {summary['elapsed_s']:.1f} s"
    out.write(lines.fitted(title, width=width) + "\n")
    if mission.reason:
        out.write(lines.fitted(f"  {lines.one(mission.reason)}", width=width) + "\n")
    total = summary["sorties"]["total"]
    if states is not None or everything or total <= MOST_ROWS:
        for item in queries.items(mission, states=states, results=False, visible=Mission.objects.all()):
            out.write(_row(item, width) + "\n")
        return
    counts = ", ".join(f"{n:,} {state}" for state, n in summary["sorties"].items() if n and state != "total")
    out.write(lines.fitted(f"  {total:,} sorties: {counts}", width=width) + "\n")
    shown = queries.notable(mission, total=total, most=MOST_ROWS, visible=Mission.objects.all())
    for item in shown:
        out.write(_row(item, width) + "\n")
    rest = f"  {total - len(shown):,} more are not shown: --state STATE shows those in one state, --all shows each."
    out.write(lines.fitted(rest, width=width) + "\n")


def _row(item: dict[str, Any], width: int | None) -> str:
    what = lines.one(item["error"] or item["waits_for"] or item["note"] or "")
    parts = (
        f"  {'tolerated' if item['tolerated'] else item['state']:<10}",
        lines.padded(lines.one(item["key"]), 30, width=width),
        lines.padded(item["agent_type"], 14, width=width),
        f"attempt {item['attempt']} ",
        what,
    )
    return lines.fitted(" ".join(parts).rstrip(), width=width, indent=13)


def summaries_as_text(*, summaries: Sequence[dict[str, Any]], out: OutputWrapper) -> None:
    width = lines.columns(out)
    for one in summaries:
        done = sum(one["sorties"][state] for state in ("succeeded", "failed", "skipped", "cancelled"))
        line = (
            f"{one['id']}  {one['state']:<10} {done:>5}/{one['sorties']['total']:<5} {one['elapsed_s']:>8.1f} s"
            f"  {lines.one(one['name'])}"
        )
        out.write(lines.fitted(line, width=width) + "\n")


class Log:
    """What a sortie has printed. `attempt` None is the last one, and, while it is followed, each that comes."""

    def __init__(self, *, sortie: Sortie, attempt: int | None) -> None:
        if attempt is not None and not 1 <= attempt <= max(1, sortie.attempt):
            raise errors.NotFound(
                f"{sortie.key} has no attempt {attempt}.", hint=f"It has had {sortie.attempt} of them."
            )
        self.sortie, self.attempt = sortie, attempt
        self._last = 0

    @property
    def silent(self) -> bool:
        """Whether none of its pieces has come so far."""
        return not self._last

    def pieces(self, *, follow: bool) -> Iterator[Output]:
        while True:
            self.sortie.refresh_from_db()
            over = not follow or self._over()
            for piece in queries.output(sortie=self.sortie, attempt=self.attempt, after=self._last).iterator():
                self._last = piece.id
                yield piece
            if over:
                return
            time.sleep(LOOK_S)

    def _over(self) -> bool:
        if self.attempt is not None and self.attempt < self.sortie.attempt:
            return True
        ended = self.sortie.state != SortieState.RUNNING and self.sortie.attempt > 0
        return ended or SortieState(self.sortie.state).final


def log_as_text(*, log: Log, follow: bool, raw: bool = False) -> None:
    """What went to standard error goes there. Text and nothing else (lines.printed), into a pipe too, as that often ends at a
    terminal; `raw`: as it was printed."""
    for piece in log.pieces(follow=follow):
        stream = sys.stdout if piece.stream == "stdout" else sys.stderr
        stream.write(piece.text if raw else lines.printed(piece.text))
        stream.flush()


def log_as_json(*, log: Log, follow: bool, one_a_line: bool, write: Write) -> None:
    """`[{attempt, stream, at, text}]`, or one such document a line."""
    pieces = (
        {"attempt": piece.attempt, "stream": piece.stream, "at": piece.at.isoformat(), "text": piece.text}
        for piece in log.pieces(follow=follow)
    )
    if one_a_line:
        for piece in pieces:
            write(json.dumps(piece) + "\n")
            sys.stdout.flush()
        return
    documents.array(write, pieces)
    write("\n")
