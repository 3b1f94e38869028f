"""Live progress on a terminal, and plain lines where there is none (a pipe, CI; NO_COLOR is honoured by rich itself)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleet import humanise
from fleet.console import lines

COLOURS = {
    "succeeded": "green", "failed": "red", "skipped": "yellow", "cancelled": "magenta", "running": "cyan",
    "queued": "blue", "waiting": "yellow", "tolerated": "yellow",
}  # fmt: skip
SIGNS = {
    "succeeded": "✓",
    "failed": "✗",
    "skipped": "–",
    "cancelled": "■",
    "running": "▶",
    "waiting": "…",
    "tolerated": "○",
}
ENDED = ("succeeded", "failed", "skipped", "cancelled")
BEFORE = frozenset({"pending", "ready", "queued"})  # it has not run, or is to run again
AFTER_NEEDS = frozenset({"running", "waiting", "succeeded", "failed"})  # reached only after all that it needs has ended
MOST_ROWS = 30
MOST_LINES = 200  # sorties of which each change gets a line of its own
FOOT = 4  # lines of a terminal that are not for sorties
SILENT_S = 30.0  # where nothing has changed for so long, a line tells how things stand
STEPS = 20  # of a mission with more sorties: so many lines tell how far it is


def console() -> Console:
    """On standard error: standard output is for data."""
    return Console(stderr=True, highlight=False)


class Board:
    """Shows a mission's sorties as they change. `update` takes the shapes of missions.queries.reads: the summary, and at most
    `room` sorties, which are all of them unless there are more."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console()
        self._clock = clock
        self.live: Live | None = None
        if self.console.is_terminal and not os.environ.get("CI"):
            self.live = Live(console=self.console, refresh_per_second=8, transient=False)
        self._seen: dict[str, tuple[str, int]] = {}  # the state and attempt in which a sortie was last seen
        self._done = 0  # of those, how many had ended
        self._step = 0
        self._wrote = clock()

    def __enter__(self) -> Board:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    @property
    def room(self) -> int:
        return max(3, min(MOST_ROWS, self.console.height - FOOT)) if self.live else MOST_LINES

    def update(self, summary: Mapping[str, Any], items: list[dict[str, Any]]) -> None:
        if self.live:
            self.live.update(self._picture(summary, items))
            return
        total = summary["sorties"]["total"]
        everything = len(items) == total
        done = self._done if everything else _done(summary, items)
        silent = BEFORE if total <= MOST_LINES else {*BEFORE, "running"}
        for item in self._news(items, all_read=everything):
            before, now = self._seen.get(item["key"]), (item["state"], item["attempt"])
            self._seen[item["key"]] = now
            if everything:
                done += (now[0] in ENDED) - (before is not None and before[0] in ENDED)
            # What ran and is queued again was lost with its agent, handed back, or reopened.
            again = before is not None and before[0] not in BEFORE and item["state"] in BEFORE
            if item["state"] not in silent or again:
                self._write(f"[{done}/{total}] {_line(item)}")
        self._done = done
        if total > MOST_LINES and done * STEPS // total > self._step:
            self._step = done * STEPS // total
            counts = ", ".join(f"{summary['sorties'][state]} {state}" for state in ENDED if summary["sorties"][state])
            self._write(f"[{done}/{total}] {counts}")
        if self._clock() - self._wrote >= SILENT_S and done < total:
            self._write(f"[{done}/{total}] {_standing(summary, items)}")

    def _news(self, items: list[dict[str, Any]], *, all_read: bool) -> list[dict[str, Any]]:
        """The sorties that have changed, in the order in which they did.

        A long list is read page by page, so a sortie may be seen to have run before the ones that it needs are seen to
        have ended. It is left for the next look.
        """
        changed = [item for item in items if self._seen.get(item["key"]) != (item["state"], item["attempt"])]
        if not all_read:
            return changed
        open_ = {item["key"] for item in items if item["state"] not in ENDED}
        early = {
            item["key"] for item in changed if item["state"] in AFTER_NEEDS and not open_.isdisjoint(item["needs"])
        }
        return _in_order([item for item in changed if item["key"] not in early])

    def _write(self, line: str) -> None:
        self._wrote = self._clock()
        self.console.print(line, markup=False, soft_wrap=True)

    def _picture(self, summary: Mapping[str, Any], items: list[dict[str, Any]]) -> Group:
        wide = self.console.width >= lines.NARROW
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True, min_width=11)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
        if wide:
            table.add_column(no_wrap=True, width=14)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
        for item in items:
            look = _look(item)
            reason = item["note"] if item["state"] == "running" else item["error"] or item["waits_for"]
            table.add_row(
                Text(f"{SIGNS.get(look, '·')} {item['status']}", style=COLOURS.get(look, "dim")),
                Text(lines.one(item["key"])),
                *([Text(item["agent_type"], style="dim")] if wide else []),
                Text(lines.one(reason or ""), style="dim"),
            )
        total, done = summary["sorties"]["total"], _done(summary, items)
        counted = summary["sorties"]
        busy = ", ".join(f"{counted[state]} {state}" for state in ("running", "failed") if counted[state])
        foot = Table.grid(padding=(0, 2))
        foot.add_column(width=max(8, min(40, self.console.width // 3)))
        foot.add_column(overflow="fold")
        title = f"{lines.one(summary['name'])}: {summary['state']}, {_elapsed(summary)}"
        foot.add_row(ProgressBar(total=max(1, total), completed=done), f"{done}/{total}  {title}")
        rest = f"{lines.counted(total - len(items), 'more sortie')} not shown; {busy or 'none is running'}"
        return Group(table, *([Text(rest, style="dim")] if total > len(items) else []), foot)


def _in_order(changed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the time of the change; each after the changes of what it needs, also where both have the same time."""
    by_key = {item["key"]: item for item in changed}
    places: dict[str, tuple[str, int]] = {}

    def place(item: dict[str, Any]) -> tuple[str, int]:
        if item["key"] not in places:
            needed = [place(by_key[key]) for key in item["needs"] if key in by_key]
            latest, depth = max(needed, default=("", -1))
            at = item["changed_at"] or ""
            places[item["key"]] = (at, 0) if at > latest else (latest, depth + 1)
        return places[item["key"]]

    return sorted(changed, key=place)


def _done(summary: Mapping[str, Any], items: list[dict[str, Any]]) -> int:
    """How many have ended. By the items, where they are all of them: they were read a moment after the summary."""
    if len(items) == summary["sorties"]["total"]:
        return sum(item["state"] in ENDED for item in items)
    return sum(summary["sorties"][state] for state in ENDED)


def _standing(summary: Mapping[str, Any], items: list[dict[str, Any]]) -> str:
    """Where nothing changes: what is running, or else what the first sortie waits for."""
    mission = f"{summary['state']} for {_elapsed(summary)}"
    running = [lines.one(item["key"]) for item in items if item["state"] == "running"]
    if running:
        more = f" and {len(running) - 3} more" if len(running) > 3 else ""
        return f"{mission}; {', '.join(running[:3])}{more} still running"
    reason = next(
        (f"{lines.one(item['key'])}: {lines.one(item['waits_for'])}" for item in items if item["waits_for"]), ""
    )
    return f"{mission}; {reason}" if reason else mission


def _elapsed(summary: Mapping[str, Any]) -> str:
    """Whole seconds: it changes eight times a second otherwise."""
    return humanise.duration(round(summary["elapsed_s"]))


def _look(item: Mapping[str, Any]) -> str:
    """What its sign and colour follow: a failure that the plan allows is none to be alarmed at."""
    return "tolerated" if item["tolerated"] else str(item["state"])


def _line(item: Mapping[str, Any]) -> str:
    reason = item["error"] or (item["waits_for"] if item["state"] in {"waiting", "skipped"} else "")
    tail = f": {lines.one(reason)[:200]}" if reason else ""
    again = " again" if item["state"] in BEFORE else ""
    attempt = f", attempt {item['attempt']}" if item["state"] == "running" and item["attempt"] > 1 else ""
    return f"{SIGNS.get(_look(item), '·')} {lines.one(item['key'])} {item['status']}{again}{attempt}{tail}"
