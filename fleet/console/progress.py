"""Shows progress: live on a terminal, and as plain lines elsewhere (a pipe, CI). rich itself honours NO_COLOR."""

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
BEFORE_RUNNING = frozenset({"pending", "ready", "queued"})  # has not run yet, or will run again
AFTER_NEEDS = frozenset({"running", "waiting", "succeeded", "failed"})  # reached only after all its needs have ended
MAX_ROWS = 30
MAX_REASON = 200  # characters of a reason on a line of its own; `show` has all of it
MAX_LINES = 200  # sorties of a mission in which every change gets its own line
FOOTER_LINES = 4  # lines of a terminal that do not show sorties
SILENT_S = 30.0  # after this long without a line, one summarises the state
STEPS = 20  # how many lines report the progress of a mission with more than MAX_LINES sorties


def console() -> Console:
    """A console on standard error, because standard output is for data."""
    return Console(stderr=True, highlight=False)


class Board:
    """Shows the sorties of a mission as they change.

    `update` takes the summary of a mission and at most `room` of its sorties, in the formats of
    missions.queries.mission_json and missions.queries.sortie_json.
    `resolve_command` returns the command for a sortie that waits for a person, by the mission's id and its key.
    """

    def __init__(
        self, *, resolve_command: Callable[[str, str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._resolve_command = resolve_command
        self.console = console()
        self._clock = clock
        self.live: Live | None = None
        if self.console.is_terminal and not os.environ.get("CI"):
            self.live = Live(console=self.console, refresh_per_second=8, transient=False)
        self._seen: dict[str, tuple[str, int]] = {}  # the last seen state and attempt of each sortie
        self._ended_count = 0  # how many of those had ended
        self._step = 0
        self._wrote_at = clock()

    def __enter__(self) -> Board:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    @property
    def room(self) -> int:
        return max(3, min(MAX_ROWS, self.console.height - FOOTER_LINES)) if self.live else MAX_LINES

    def update(self, summary: Mapping[str, Any], items: list[dict[str, Any]]) -> None:
        if self.live:
            self.live.update(self._render(summary, items))
            return
        total = summary["sorties"]["total"]
        complete = len(items) == total
        ended_count = self._ended_count if complete else _count_ended(summary, items)
        silent = BEFORE_RUNNING if total <= MAX_LINES else {*BEFORE_RUNNING, "running"}
        for item in self._changed(items, complete=complete):
            before, now = self._seen.get(item["key"]), (item["state"], item["attempt"])
            self._seen[item["key"]] = now
            if complete:
                ended_count += (now[0] in ENDED) - (before is not None and before[0] in ENDED)
            # A sortie that ran and is queued again was lost with its agent, handed back, or reopened.
            requeued = before is not None and before[0] not in BEFORE_RUNNING and item["state"] in BEFORE_RUNNING
            if item["state"] not in silent or requeued:
                self._write(f"[{ended_count}/{total}] {_line(item)}")
            if item.get("waits_on") == "person":  # on a line of its own, so that it can be pasted
                self._write(f"      Resolve it: {self._resolve_command(summary['id'], item['key'])}")
        self._ended_count = ended_count
        if total > MAX_LINES and ended_count * STEPS // total > self._step:
            self._step = ended_count * STEPS // total
            counts = ", ".join(f"{summary['sorties'][state]} {state}" for state in ENDED if summary["sorties"][state])
            self._write(f"[{ended_count}/{total}] {counts}")
        if self._clock() - self._wrote_at >= SILENT_S and ended_count < total:
            self._write(f"[{ended_count}/{total}] {_situation(summary, items)}")

    def _changed(self, items: list[dict[str, Any]], *, complete: bool) -> list[dict[str, Any]]:
        """Return the sorties that have changed, in the order in which they changed.

        A long list is read page by page, so a sortie may be seen running before its needs are seen to have ended. Such
        a change is left for the next update.
        """
        changed = [item for item in items if self._seen.get(item["key"]) != (item["state"], item["attempt"])]
        if not complete:
            return changed
        unfinished = {item["key"] for item in items if item["state"] not in ENDED}
        early = {
            item["key"] for item in changed if item["state"] in AFTER_NEEDS and not unfinished.isdisjoint(item["needs"])
        }
        return _in_order([item for item in changed if item["key"] not in early])

    def _write(self, line: str) -> None:
        self._wrote_at = self._clock()
        self.console.print(line, markup=False, soft_wrap=True)

    def _render(self, summary: Mapping[str, Any], items: list[dict[str, Any]]) -> Group:
        wide = self.console.width >= lines.NARROW
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True, min_width=11)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
        if wide:
            table.add_column(no_wrap=True, width=14)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
        for item in items:
            style = _style(item)
            reason = item["note"] if item["state"] == "running" else _reason(item) or item["waits_for"]
            table.add_row(
                Text(f"{SIGNS.get(style, '·')} {item['status']}", style=COLOURS.get(style, "dim")),
                Text(lines.one_line(item["key"])),
                *([Text(item["agent_type"], style="dim")] if wide else []),
                Text(lines.one_line(reason or ""), style="dim"),
            )
        total, ended_count = summary["sorties"]["total"], _count_ended(summary, items)
        counted = summary["sorties"]
        busy = ", ".join(f"{counted[state]} {state}" for state in ("running", "failed") if counted[state])
        footer = Table.grid(padding=(0, 2))
        footer.add_column(width=max(8, min(40, self.console.width // 3)))
        footer.add_column(overflow="fold")
        title = f"{lines.one_line(summary['name'])}: {summary['state']}, {_elapsed(summary)}"
        footer.add_row(ProgressBar(total=max(1, total), completed=ended_count), f"{ended_count}/{total}  {title}")
        hidden = f"{lines.counted(total - len(items), 'more sortie')} not shown; {busy or 'none is running'}"
        return Group(table, *([Text(hidden, style="dim")] if total > len(items) else []), footer)


def _in_order(changed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort by the time of the change, but each sortie after its needs, even if both have the same time."""
    by_key = {item["key"]: item for item in changed}
    ranks: dict[str, tuple[str, int]] = {}

    def rank(item: dict[str, Any]) -> tuple[str, int]:
        if item["key"] not in ranks:
            needs = [rank(by_key[key]) for key in item["needs"] if key in by_key]
            latest, depth = max(needs, default=("", -1))
            at = item["changed_at"] or ""
            ranks[item["key"]] = (at, 0) if at > latest else (latest, depth + 1)
        return ranks[item["key"]]

    return sorted(changed, key=rank)


def _count_ended(summary: Mapping[str, Any], items: list[dict[str, Any]]) -> int:
    """Count the sorties that have ended: from the items if they are complete, which are newer than the summary."""
    if len(items) == summary["sorties"]["total"]:
        return sum(item["state"] in ENDED for item in items)
    return sum(summary["sorties"][state] for state in ENDED)


def _situation(summary: Mapping[str, Any], items: list[dict[str, Any]]) -> str:
    """Describe what is running, or else what the first sortie waits for."""
    mission = f"{summary['state']} for {_elapsed(summary)}"
    running = [lines.one_line(item["key"]) for item in items if item["state"] == "running"]
    if running:
        more = f" and {len(running) - 3} more" if len(running) > 3 else ""
        return f"{mission}; {', '.join(running[:3])}{more} still running"
    reason = next(
        (f"{lines.one_line(item['key'])}: {lines.one_line(item['waits_for'])}" for item in items if item["waits_for"]),
        "",
    )
    return f"{mission}; {reason}" if reason else mission


def _elapsed(summary: Mapping[str, Any]) -> str:
    """The elapsed time in whole seconds; a finer one would change with each of eight refreshes a second."""
    return humanise.duration(round(summary["elapsed_s"]))


def _style(item: Mapping[str, Any]) -> str:
    """Return the key for the sign and the colour. A failure that the plan allows must not look alarming."""
    return "tolerated" if item["tolerated"] else str(item["state"])


def _reason(item: Mapping[str, Any]) -> str:
    """Why the sortie failed or waits. If it waits for a person, that takes precedence."""
    if item.get("waits_on") == "person":
        return str(item["waits_for"])
    return item["error"] or (item["waits_for"] if item["state"] in {"waiting", "skipped"} else "")


def _shortened(reason: str) -> str:
    return reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 1].rstrip()}…"


def _line(item: Mapping[str, Any]) -> str:
    reason = _reason(item)
    suffix = f": {_shortened(lines.one_line(reason))}" if reason else ""
    again = " again" if item["state"] in BEFORE_RUNNING else ""
    attempt = f", attempt {item['attempt']}" if item["state"] == "running" and item["attempt"] > 1 else ""
    return f"{SIGNS.get(_style(item), '·')} {lines.one_line(item['key'])} {item['status']}{again}{attempt}{suffix}"
