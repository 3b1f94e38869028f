"""Missions, their sorties and their output: as text, and as JSON that is streamed row by row."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.core.management.base import OutputWrapper

from fleet import errors, humanise
from fleet.console import json_output, lines
from missions.models import Attempt, Mission, Sortie, WaitsOn
from missions.queries import mission_json, mission_results, sortie_json, workspaces
from missions.queries.transcripts import Piece, SortieTranscript, Transcript
from missions.states import FINAL_SORTIE_STATES

POLL_S = 0.3
STATUS_WIDTH, MAX_STATUS_WIDTH = 10, 24  # of the column of states, at least and at most
KEY_WIDTH, MAX_KEY_WIDTH = 30, 60  # of the column of keys
MAX_ROWS = 50  # a mission with more sorties is summarised, unless --all is given

Write = Callable[[str], object]


class Columns(NamedTuple):
    """The widths of the first two columns of a list of sorties."""

    status: int = STATUS_WIDTH
    key: int = KEY_WIDTH

    @classmethod
    def of(cls, items: Sequence[dict[str, Any]]) -> Columns:
        """The widths that fit the longest value of each column, within limits."""
        status = max([STATUS_WIDTH, *(len(item["status"]) for item in items)])
        key = max([KEY_WIDTH, *(len(lines.one_line(item["key"])) for item in items)])
        return cls(min(status, MAX_STATUS_WIDTH), min(key, MAX_KEY_WIDTH))

    @property
    def indent(self) -> int:
        """Where the column of keys starts."""
        return 2 + self.status + 1


def mission_as_json(*, mission: Mission, states: Sequence[str] | None, write: Write) -> None:
    """Write the summary with `items` and `artifacts`, streamed: a mission of any size takes little memory."""
    files = (mission_results.artifact_as_json(file) for file in mission_results.artifacts(mission).iterator())
    items = sortie_json.of_mission(mission, states=states, visible=Mission.objects.all())
    head = {**mission_json.summary(mission), "workspace": workspaces.workspace(mission)}
    json_output.write_object(write, head, {"items": items, "artifacts": files})


def mission_as_text(*, mission: Mission, states: Sequence[str] | None, show_all: bool, out: OutputWrapper) -> None:
    summary = mission_json.summary(mission)
    width = lines.columns(out)
    title = f"{mission.ref}  {lines.one_line(mission.name)}  {mission.state}  {humanise.duration(summary['elapsed_s'])}"
    out.write(lines.fitted(title, width=width) + "\n")
    if mission.reason:
        out.write(lines.fitted(f"  {lines.one_line(mission.reason)}", width=width) + "\n")
    if mission.origin:
        out.write(lines.fitted(f"  {lines.one_line(mission.origin)}", width=width) + "\n")
    if workspace := workspaces.workspace(mission):
        out.write(lines.fitted(f"  {_workspace(workspace)}", width=width) + "\n")
    total = summary["sorties"]["total"]
    if states is not None or show_all or total <= MAX_ROWS:
        items = sortie_json.of_mission(mission, states=states, results=False, visible=Mission.objects.all())
        if total > MAX_ROWS:  # they are written as they are read, so the longest values are not known
            _write_rows(mission, items, Columns(), width, out)
        else:
            listed = list(items)
            _write_rows(mission, listed, Columns.of(listed), width, out)
        return
    counts = ", ".join(f"{n:,} {state}" for state, n in summary["sorties"].items() if n and state != "total")
    out.write(lines.fitted(f"  {total:,} sorties: {counts}", width=width) + "\n")
    notable = sortie_json.notable(mission, total=total, limit=MAX_ROWS, visible=Mission.objects.all())
    _write_rows(mission, notable, Columns.of(notable), width, out)
    hidden = f"  {total - len(notable):,} more are not shown. --state STATE shows those in one state, --all shows all."
    out.write(lines.fitted(hidden, width=width) + "\n")


def _workspace(workspace: dict[str, Any]) -> str:
    branch, repository = lines.one_line(workspace["branch"]), lines.one_line(workspace["repository"])
    base = f"from {lines.one_line(workspace['base'])} ({workspace['base_commit'][:12]})"
    return f"branch {branch} for {repository}, {base}" + (", discarded" if workspace["discarded_at"] else "")


def _write_rows(
    mission: Mission, items: Iterable[dict[str, Any]], columns: Columns, width: int | None, out: OutputWrapper
) -> None:
    for item in items:
        out.write(_row(item, width, columns) + "\n")
        if item["waits_on"] == WaitsOn.PERSON:  # on a line of its own, not wrapped, so that it can be pasted
            out.write(f"{'':{columns.indent}}Resolve it: {workspaces.resolve_command(mission.ref, item['key'])}\n")


def _row(item: dict[str, Any], width: int | None, columns: Columns) -> str:
    took = "" if item["elapsed_s"] is None else humanise.duration(item["elapsed_s"])
    parts = (
        f"  {item['status']:<{columns.status}}",
        lines.padded(lines.one_line(item["key"]), columns.key, width=width),
        lines.padded(item["agent_type"], 14, width=width),
        lines.padded(f"attempt {item['attempt']}" if item["attempt"] else "", 12, width=width),
        lines.padded(took, 11, width=width),
        lines.one_line(_reason(item)),
    )
    return lines.fitted(" ".join(part for part in parts if part).rstrip(), width=width, indent=columns.indent)


def _reason(item: dict[str, Any]) -> str:
    """Why a sortie is in its state. For one that is retried: why its last attempt failed."""
    if item["waits_on"] == WaitsOn.PERSON:
        return str(item["waits_for"])
    return str(item["error"] or item["waits_for"] or item["note"] or "")


def summaries_as_text(*, summaries: Sequence[dict[str, Any]], out: OutputWrapper) -> None:
    """Write a table: id, state, ended sorties, start, duration, name."""
    rows = []
    for summary in summaries:
        ended_count = sum(summary["sorties"][state] for state in ("succeeded", "failed", "skipped", "cancelled"))
        started = datetime.fromisoformat(summary["created_at"]).astimezone(UTC)
        rows.append(
            (
                summary["id"],
                summary["state"],
                f"{ended_count}/{summary['sorties']['total']}",
                f"{started:%Y-%m-%d %H:%M:%S}",
                humanise.duration(summary["elapsed_s"]),
                summary["name"],
            )
        )
    header = ("ID", "STATE", "DONE", "STARTED (UTC)", "TOOK", "NAME")
    for line in lines.table(header, rows, width=lines.columns(out)):
        out.write(line)


def output_of_sorties(
    *, mission: Mission, sorties: Sequence[Sortie] | None, attempt: int | None, follow: bool
) -> Iterator[Piece]:
    """The output of several sorties (None: all of the mission) in all their attempts, in the order of writing.

    `attempt`: only of attempts with this number. `follow`: until all of the sorties have ended.
    """
    selected = Sortie.objects.filter(mission=mission)
    if sorties is not None:
        selected = selected.filter(id__in=[sortie.id for sortie in sorties])
    attempts = Attempt.objects.filter(sortie__in=selected)
    if attempt is not None:
        attempts = attempts.filter(number=attempt)
    return _read(
        Transcript(attempts), until=lambda: not selected.exclude(state__in=FINAL_SORTIE_STATES).exists(), follow=follow
    )


def output_of_sortie(*, sortie: Sortie, attempt: int | None, follow: bool) -> Iterator[Piece]:
    """The output of one attempt of a sortie, by default the last one.

    `follow`: until that attempt has ended; by default until the sortie has ended, with all further attempts.
    """
    if attempt is not None and not 1 <= attempt <= max(1, sortie.attempt):
        raise errors.NotFound(
            f"{sortie.key} has no attempt {attempt}.", hint=f"It has had {lines.counted(sortie.attempt, 'attempt')}."
        )
    transcript = SortieTranscript(sortie=sortie, attempt=attempt)
    return _read(transcript, until=transcript.ended, follow=follow)


def _read(transcript: Transcript, *, until: Callable[[], bool], follow: bool) -> Iterator[Piece]:
    while True:
        last_read = not follow or until()
        yield from transcript.read()
        if last_read:
            return
        time.sleep(POLL_S)


def write_as_text(pieces: Iterable[Piece], *, raw: bool = False) -> bool:
    """Print the output of one sortie, each stream to its own. Return whether there was any."""
    empty = True
    for piece in pieces:
        empty = False
        write_output(piece["stream"], piece["text"], raw=raw)
    return not empty


def write_output(stream: str, text: str, *, raw: bool = False) -> None:
    """Print a piece of output on the stream that it came from.

    Unless `raw`, control characters are made visible: in a pipe too, because it often ends at a terminal.
    """
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.write(text if raw else lines.terminal_safe(text))
    target.flush()


def write_interleaved(pieces: Iterable[Piece], *, raw: bool = False) -> bool:
    """Print the output of several sorties line by line, prefixed with their keys. Return whether there was any."""
    unfinished: dict[tuple[str, int, str], str] = {}  # the last line of each source, while it is incomplete
    labels: dict[tuple[str, int, str], str] = {}
    for piece in pieces:
        source = piece["sortie"], piece["attempt"], piece["stream"]
        labels[source] = lines.one_line(piece["key"]) + (
            f" (attempt {piece['attempt']})" if piece["attempt"] > 1 else ""
        )
        *complete, unfinished[source] = (unfinished.get(source, "") + piece["text"]).split("\n")
        for line in complete:
            write_output(piece["stream"], f"{labels[source]} | {line}\n", raw=raw)
    for source, line in unfinished.items():
        if line:
            write_output(source[2], f"{labels[source]} | {line}\n", raw=raw)
    return bool(labels)


def write_as_json(pieces: Iterable[Piece], *, one_per_line: bool, write: Write) -> None:
    """Write `[{mission, sortie, key, attempt, stream, at, text}]`, or one such document per line."""
    if one_per_line:
        for piece in pieces:
            write(json.dumps(piece) + "\n")
            sys.stdout.flush()
        return
    json_output.write_array(write, pieces)
    write("\n")
