"""Live progress on a terminal, and plain lines where there is none (a pipe, CI, NO_COLOR is honoured by rich itself)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

COLOURS = {
    "succeeded": "green", "failed": "red", "skipped": "yellow", "cancelled": "magenta", "running": "cyan",
    "queued": "blue", "waiting": "yellow",
}  # fmt: skip
SIGNS = {"succeeded": "✓", "failed": "✗", "skipped": "–", "cancelled": "■", "running": "▶", "waiting": "…"}
MOST_ROWS = 30
BUSY = {"running", "failed", "waiting"}  # shown alone where there are more


def console() -> Console:
    """On standard error: standard output is for data."""
    return Console(stderr=True, highlight=False)


class Board:
    """Shows a mission's sorties as they change. `update` takes the shapes of missions.queries."""

    def __init__(self) -> None:
        self.console = console()
        self.live: Live | None = None
        if self.console.is_terminal and not os.environ.get("CI"):
            self.live = Live(console=self.console, refresh_per_second=8, transient=False)
        self._told: dict[str, str] = {}

    def __enter__(self) -> Board:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def update(self, summary: Mapping[str, Any], items: list[dict[str, Any]]) -> None:
        if self.live:
            self.live.update(self._picture(summary, items))
            return
        done = sum(item["state"] in {"succeeded", "failed", "skipped", "cancelled"} for item in items)
        for item in items:
            if self._told.get(item["key"]) != item["state"] and item["state"] not in {"pending", "ready", "queued"}:
                self.console.print(f"[{done}/{len(items)}] {_line(item)}", markup=False)
            self._told[item["key"]] = item["state"]

    def _picture(self, summary: Mapping[str, Any], items: list[dict[str, Any]]) -> Group:
        table = Table.grid(padding=(0, 2))
        shown = (
            items
            if len(items) <= MOST_ROWS
            else [i for i in items if i["state"] in {"running", "failed", "waiting"}][:MOST_ROWS]
        )
        for item in shown:
            colour = COLOURS.get(item["state"], "dim")
            what = item["note"] if item["state"] == "running" else item["error"] or item["waits_for"] or ""
            table.add_row(
                Text(f"{SIGNS.get(item['state'], '·')} {item['state']:<9}", style=colour),
                Text(item["key"]),
                Text(item["agent_type"], style="dim"),
                Text(" ".join(str(what).split())[:80], style="dim"),
            )
        done = sum(item["state"] in {"succeeded", "failed", "skipped", "cancelled"} for item in items)
        foot = Table.grid(padding=(0, 2))
        foot.add_row(
            ProgressBar(total=max(1, len(items)), completed=done, width=40),
            f"{done}/{len(items)}  {summary['name']}: {summary['state']}  {summary['elapsed_s']:.0f} s",
        )
        return Group(table, foot)


def _line(item: Mapping[str, Any]) -> str:
    what = item["error"] or (item["waits_for"] if item["state"] in {"waiting", "skipped"} else "")
    tail = f": {' '.join(str(what).split())[:200]}" if what else ""
    return f"{SIGNS.get(item['state'], '·')} {item['key']} {item['state']}{tail}"
