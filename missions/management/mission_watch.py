"""Watch a mission until it ends, then print its outcome."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import connection

from fleet import errors, humanise
from fleet.console import invocation, lines
from fleet.console.progress import Board
from fleet.events import stream
from fleet.events.models import Event
from fleet.management.operator import OperatorCommand
from fleet.postgres import retries
from fleet.postgres.commit_order import Position
from missions.management import artifact_files
from missions.models import Mission
from missions.queries import mission_json, mission_lookup, mission_results, sortie_json, workspaces
from missions.states import MissionState

POLL_S = 0.3
POSTGRES_TIMEOUT_S = 60.0  # give up if Postgres has not answered for this long
LAST_EVENT_S = 5.0  # another open transaction can hold back the last events for a moment
EVENTS_PER_READ = 1_000
MAX_MISSION_NAMES = 5  # running missions that `wait` lists
MAX_LISTED = 20  # failed sorties, and files, in the summary at the end
UNSUCCESSFUL, TIMED_OUT, DETACHED = 5, 3, 130

Say = Callable[[str], None]
OnEvent = Callable[[dict[str, Any]], None]
T = TypeVar("T")


def retry_query(query: Callable[[], T], *, say: Say, stop: Callable[[], bool] = lambda: False) -> T:
    """Run a query. While Postgres restarts, retry it for POSTGRES_TIMEOUT_S or until `stop` returns True."""

    def handle_failure(_: Exception, failures: int) -> None:
        connection.close()
        if failures == 1:
            say("Postgres does not answer; waiting for it.")

    return retries.retry(query, on_failure=handle_failure, stop=stop, timeout_s=POSTGRES_TIMEOUT_S)


class MissionWatch:
    """One watched mission. `on_event` gets each event as a JSON document; None: show progress instead."""

    def __init__(self, *, mission: Mission, say: Say, on_event: OnEvent | None = None) -> None:
        self.mission, self.say, self.on_event = mission, say, on_event
        self.ref = mission.ref
        self._position = Position()
        self._last_event_seen = False

    def follow(self, *, timeout_s: float | None, quiet: bool) -> int:
        """Watch until the mission ends; return the exit code. Ctrl-C and the timeout do not affect the mission.

        `quiet`: without a terminal, show nothing but the outcome.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        try:
            with Board(resolve_command=workspaces.resolve_command) as board:
                while not self._poll(board, deadline=deadline, quiet=quiet):
                    if time.monotonic() >= deadline:
                        waited = humanise.duration(timeout_s or 0)
                        self.say(f"The mission has not ended within {waited}; it is still {self.mission.state}.")
                        self._print_next_commands()
                        return TIMED_OUT
                    time.sleep(POLL_S)
            if self.on_event:
                self._send_last_events()
        except KeyboardInterrupt:
            self.say(f"\nThe mission is still {self.mission.state}.")
            self._print_next_commands()
            return DETACHED
        return 0 if self.mission.state == MissionState.SUCCEEDED else UNSUCCESSFUL

    def _poll(self, board: Board, *, deadline: float, quiet: bool) -> bool:
        """Show the current state; return whether the mission has ended. Waits while Postgres restarts."""
        try:
            retry_query(lambda: self._show(board, quiet=quiet), say=self.say, stop=lambda: time.monotonic() >= deadline)
        except retries.TRANSIENT:
            if time.monotonic() < deadline:
                raise
            return False
        return MissionState(self.mission.state).final

    def _show(self, board: Board, *, quiet: bool) -> None:
        mission = Mission.objects.defer("plan").filter(id=self.mission.id).first()
        if mission is None:
            raise errors.NotFound(f"The mission {self.ref} has been removed.")
        self.mission = mission
        if self.on_event:
            self._send_events()
        elif board.live or not quiet:
            summary = mission_json.summary(mission)
            total = summary["sorties"]["total"]
            board.update(
                summary, sortie_json.notable(mission, total=total, limit=board.room, visible=Mission.objects.all())
            )

    def _print_next_commands(self) -> None:
        self.say(f"Follow it: {invocation.command('fleet_mission', 'watch', self.ref)}")
        self.say(f"Cancel it: {invocation.command('fleet_mission', 'cancel', self.ref)}")

    def _send_events(self) -> None:
        while events := list(stream.since(last=self._position, scope=self.mission.id)[:EVENTS_PER_READ]):
            self._position = Position.of(events[-1])
            keys = _sortie_keys(events)
            for event in sorted(events, key=lambda event: event.id):
                self._last_event_seen = event.kind == f"mission.{self.mission.state}"
                if self.on_event:
                    self.on_event(_as_json(event, keys))

    def _send_last_events(self) -> None:
        deadline = time.monotonic() + LAST_EVENT_S
        self._send_events()
        while not self._last_event_seen and time.monotonic() < deadline:
            time.sleep(0.05)
            self._send_events()


def _as_json(event: Event, keys: dict[UUID, str]) -> dict[str, Any]:
    """`{id, at, kind, subject, key, data}` (docs/commands.md)."""
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "subject": event.subject_ref,
        "key": keys.get(event.subject) if event.subject else None,
        "data": event.public_data,
    }


def _sortie_keys(events: Iterable[Event]) -> dict[UUID, str]:
    subjects = [event.subject for event in events if event.subject and event.kind.startswith("sortie.")]
    return mission_lookup.keys(subjects)


def wait_for_all(*, say: Say) -> int:
    """Wait until no mission is running or being cancelled; paused ones do not count. Return the exit code."""
    running = Mission.objects.filter(state__in=(MissionState.RUNNING, MissionState.CANCELLING)).order_by("id")
    announced = False
    try:
        while count := retry_query(running.count, say=say):
            if not announced:
                names = retry_query(lambda: list(running.values_list("name", flat=True)[:MAX_MISSION_NAMES]), say=say)
                more = f" and {count - MAX_MISSION_NAMES} more" if count > MAX_MISSION_NAMES else ""
                say(
                    f"{lines.counted(count, 'mission')} still running: {', '.join(map(lines.one_line, names))}{more}. "
                    "Waiting; Ctrl-C ends the wait."
                )
                announced = True
            time.sleep(POLL_S)
        return 0
    except KeyboardInterrupt:
        say("\nNo longer waiting. The missions continue while the fleet is up.")
        return DETACHED


def watch_to_end(
    *,
    mission: Mission,
    command: OperatorCommand,
    as_json: bool,
    timeout_s: float | None = None,
    on_event: OnEvent | None = None,
    list_saved: Path | None = None,
) -> int:
    """Watch a mission and print its outcome; return the exit code. With `on_event` there is no JSON summary."""
    watch = MissionWatch(mission=mission, say=command.say, on_event=on_event)
    code = watch.follow(timeout_s=timeout_s, quiet=as_json)
    if code in (TIMED_OUT, DETACHED):
        return code
    summary = mission_json.summary(watch.mission)
    if as_json and not on_event:
        command.show(summary)
    print_outcome(mission=watch.mission, summary=summary, say=command.say, list_saved=list_saved)
    return code


def print_outcome(*, mission: Mission, summary: dict[str, Any], say: Say, list_saved: Path | None = None) -> None:
    """Print the counts, failures and conclusion of an ended mission, save its files, and print their paths.

    `list_saved`: a file to write the paths to, one per line.
    """
    tolerated = mission_json.tolerated_failures(mission)
    numbers = summary["sorties"] | {"failed": summary["sorties"]["failed"] - tolerated, "tolerated": tolerated}
    counts = ", ".join(f"{n} {name}" for name, n in numbers.items() if n and name != "total")
    say(f"{lines.one_line(mission.name)} {mission.state} in {humanise.duration(summary['elapsed_s'])}: {counts}")
    for item in sortie_json.of_mission(mission, states=["failed"], limit=MAX_LISTED, results=False):
        mark, word = ("○", "tolerated: ") if item["tolerated"] else ("✗", "")
        say(f"  {mark} {lines.one_line(item['key'])}: {word}{lines.one_line(item['error'] or '')}")
    if (more := summary["sorties"]["failed"] - MAX_LISTED) > 0:
        show = invocation.command("fleet_mission", "show", mission.ref, "--state", "failed")
        say(f"  … and {more} more: {show}")
    _print_conclusion(mission_results.last_result(mission), say)
    if workspaces.has_landed(mission):
        say(f"  See what has landed: {invocation.command('fleet_mission', 'diff', mission.ref)}")
        say(f"  Create its branch in your repository: {invocation.command('fleet_mission', 'merge', mission.ref)}")
    folder = settings.FLEET_HOME.root / "reports" / mission.ref
    saved = list(artifact_files.save(mission_results.artifacts(mission).iterator(), folder))
    for path in saved[:MAX_LISTED]:
        say(f"  {path}")
    if len(saved) > MAX_LISTED:
        say(f"  … and {len(saved) - MAX_LISTED} more in {folder}")
    if list_saved is not None:
        list_saved.write_text("".join(f"{path}\n" for path in saved))


def _print_conclusion(result: Any, say: Say) -> None:
    """Print the `verdict`, `because` and `top` of the last sortie's result, if it has them (docs/commands.md)."""
    if not isinstance(result, dict) or not isinstance(result.get("verdict"), str):
        return
    say(f"\n{lines.one_line(result['verdict'])} {lines.one_line(result.get('because') or '')}".rstrip())
    top = result.get("top")
    for number, entry in enumerate(top[:5] if isinstance(top, list) else [], start=1):
        if isinstance(entry, dict):
            where = f" ({entry['file']}:{entry.get('line') or 1})" if entry.get("file") else ""
            severity = f"{entry['severity']}: " if entry.get("severity") else ""
            say(f"  {number}. " + lines.one_line(f"{severity}{entry.get('title', '')}{where}"))
    say("")
