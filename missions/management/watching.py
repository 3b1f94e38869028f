"""Following a mission to its end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from fleet import errors, humanise, ids, invocation
from fleet.console import lines
from fleet.console.progress import Board
from fleet.events import stream
from fleet.events.models import Event
from fleet.management.operator import OperatorCommand
from missions.artifacts import collection
from missions.models import Artifact, Mission, Sortie
from missions.queries import reads
from missions.states import MissionState

LOOK_S = 0.3
PATIENCE_S = 60.0  # for how long a Postgres that does not answer is waited for
LAST_EVENT_S = 5.0  # a transaction that is open elsewhere keeps the last events back for a moment
EVENTS = 1_000  # read at once
MOST_NAMED = 5  # missions that are waited for
MOST_TOLD = 20  # failed sorties, and files, that are named at the end
UNSUCCESSFUL, TIMED_OUT, DETACHED = 5, 3, 130
PREFIXES = {"mission": ids.MISSION, "sortie": ids.SORTIE, "agent": ids.AGENT, "node": ids.NODE}

Say = Callable[[str], None]


class Patience:
    """With a Postgres that restarts, for a minute."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self._silent_since: float | None = None

    def lose(self, fault: Exception) -> None:
        """It does not answer: `fault` is raised once that has lasted too long."""
        connection.close()
        if self._silent_since is None:
            self.say("Postgres does not answer; waiting for it.")
            self._silent_since = time.monotonic()
        if time.monotonic() - self._silent_since > PATIENCE_S:
            raise fault

    def regain(self) -> None:
        self._silent_since = None


class Watch:
    """One mission as it is followed. `tell` takes one JSON document for each event; None where they are not wanted."""

    def __init__(self, *, mission: Mission, say: Say, tell: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.mission, self.say, self.tell = mission, say, tell
        self.ref = mission.ref
        self._last = stream.Position()
        self._ended = False  # its last event has been told
        self._patience = Patience(say)

    def follow(self, *, timeout_s: float | None, quiet: bool) -> int:
        """To its end: the exit code. Ctrl-C and the timeout leave the mission alone and say how to come back.

        `quiet`: nothing but the outcome is shown where there is no terminal.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            with Board() as board:
                while not self._look(board, quiet=quiet):
                    if deadline is not None and time.monotonic() >= deadline:
                        self.say(f"It is still {self.mission.state}.")
                        self._tell_way_back()
                        return TIMED_OUT
                    time.sleep(LOOK_S)
            if self.tell:
                self._finish_telling()
        except KeyboardInterrupt:
            self.say("\nThe mission is still running.")
            self._tell_way_back()
            return DETACHED
        return 0 if self.mission.state == MissionState.SUCCEEDED else UNSUCCESSFUL

    def _look(self, board: Board, *, quiet: bool) -> bool:
        """Show how it stands; True once it has ended. A Postgres that restarts is waited for."""
        try:
            found = Mission.objects.defer("plan").filter(id=self.mission.id).first()
            if found is None:
                raise errors.NotFound(f"The mission {self.ref} has been removed.")
            self.mission = found
            if self.tell:
                self._tell_events()
            elif board.live or not quiet:
                summary = reads.summary(found)
                total = summary["sorties"]["total"]
                board.update(summary, reads.notable(found, total=total, most=board.room, visible=Mission.objects.all()))
        except (OperationalError, InterfaceError) as fault:
            self._patience.lose(fault)
            return False
        self._patience.regain()
        return MissionState(self.mission.state).final

    def _tell_way_back(self) -> None:
        self.say(f"Follow it: {invocation.command('fleet_mission', 'watch', self.ref)}")
        self.say(f"Cancel it: {invocation.command('fleet_mission', 'cancel', self.ref)}")

    def _tell_events(self) -> None:
        while events := list(stream.since(last=self._last, scope=self.mission.id)[:EVENTS]):
            self._last = stream.Position.of(events[-1])
            keys = _keys(events)
            for event in sorted(events, key=lambda one: one.id):
                self._ended = event.kind == f"mission.{self.mission.state}"
                if self.tell:
                    self.tell(told(event, keys))

    def _finish_telling(self) -> None:
        deadline = time.monotonic() + LAST_EVENT_S
        self._tell_events()
        while not self._ended and time.monotonic() < deadline:
            time.sleep(0.05)
            self._tell_events()


def told(event: Event, keys: dict[UUID, str]) -> dict[str, Any]:
    """`{id, at, kind, subject, key, data}`: an event as programs read it (docs/commands.md)."""
    prefix = PREFIXES.get(event.kind.partition(".")[0])
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "subject": ids.encode(prefix, event.subject) if prefix and event.subject else None,
        "key": keys.get(event.subject) if event.subject else None,
        "data": event.told,
    }


def _keys(events: Iterable[Event]) -> dict[UUID, str]:
    subjects = [event.subject for event in events if event.subject and event.kind.startswith("sortie.")]
    return dict(Sortie.objects.filter(id__in=subjects).values_list("id", "key"))


def until_none_runs(*, say: Say) -> int:
    """Wait until no mission runs or is being cancelled; 130 after Ctrl-C. One that is paused is not waited for."""
    running = Mission.objects.filter(state__in=(MissionState.RUNNING, MissionState.CANCELLING)).order_by("id")
    patience, told = Patience(say), False
    try:
        while True:
            try:
                count = running.count()
                patience.regain()
                if not count:
                    return 0
                if not told:
                    named = ", ".join(lines.one(mission.name) for mission in running.defer("plan")[:MOST_NAMED])
                    more = f" and {count - MOST_NAMED} more" if count > MOST_NAMED else ""
                    say(
                        f"{lines.counted(count, 'mission')} still running: {named}{more}. Waiting; Ctrl-C ends the wait."
                    )
                    told = True
            except (OperationalError, InterfaceError) as fault:
                patience.lose(fault)
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        say("\nNo longer waiting; what runs goes on while there is a fleet.")
        return DETACHED


def here() -> str:
    """Where the plan's relative paths start from."""
    try:
        folder = os.getcwd()
        folder.encode()
    except (OSError, UnicodeEncodeError) as fault:
        raise errors.Invalid(
            "The folder that you are in is gone, or its name is not UTF-8.", hint="Change to another."
        ) from fault
    return folder


def to_its_end(
    *,
    mission: Mission,
    command: OperatorCommand,
    as_json: bool,
    timeout_s: float | None = None,
    tell: Callable[[dict[str, Any]], None] | None = None,
    list_saved: Path | None = None,
) -> int:
    """Watch, and tell what came of it: the exit code. `tell` is given each event, and then there is no summary as JSON."""
    watch = Watch(mission=mission, say=command.say, tell=tell)
    code = watch.follow(timeout_s=timeout_s, quiet=as_json)
    if code in (TIMED_OUT, DETACHED):
        return code
    summary = reads.summary(watch.mission)
    if as_json and not tell:
        command.show(summary)
    conclude(mission=watch.mission, summary=summary, say=command.say, list_saved=list_saved)
    return code


def conclude(*, mission: Mission, summary: dict[str, Any], say: Say, list_saved: Path | None = None) -> None:
    """What came of a mission that has ended: counts, failures, what its last sortie concluded, where its files are.

    `list_saved`: a file that gets the paths of the files, one a line.
    """
    tolerated = reads.tolerated(mission)
    numbers = summary["sorties"] | {"failed": summary["sorties"]["failed"] - tolerated, "tolerated": tolerated}
    counts = ", ".join(f"{n} {name}" for name, n in numbers.items() if n and name != "total")
    say(f"{lines.one(mission.name)} {mission.state} in {humanise.duration(summary['elapsed_s'])}: {counts}")
    for item in reads.items(mission, states=["failed"], most=MOST_TOLD, results=False):
        sign, word = ("○", "tolerated: ") if item["tolerated"] else ("✗", "")
        say(f"  {sign} {lines.one(item['key'])}: {word}{lines.one(item['error'] or '')}")
    if (more := summary["sorties"]["failed"] - MOST_TOLD) > 0:
        show = invocation.command("fleet_mission", "show", mission.ref, "--state", "failed")
        say(f"  … and {more} more: {show}")
    _tell_found(reads.last_result(mission), say)
    folder = settings.FLEET_HOME.root / "reports" / mission.ref
    saved = list(save(reads.artifacts(mission).iterator(), folder))
    for path in saved[:MOST_TOLD]:
        say(f"  {path}")
    if len(saved) > MOST_TOLD:
        say(f"  … and {len(saved) - MOST_TOLD} more in {folder}")
    if list_saved is not None:
        list_saved.write_text("".join(f"{path}\n" for path in saved))


def _tell_found(result: Any, say: Say) -> None:
    """What the last sortie concluded, where its result has a `verdict`, `because` and `top` (docs/commands.md)."""
    if not isinstance(result, dict) or not isinstance(result.get("verdict"), str):
        return
    say(f"\n{lines.one(result['verdict'])} {lines.one(result.get('because') or '')}".rstrip())
    top = result.get("top")
    for number, one in enumerate(top[:5] if isinstance(top, list) else [], start=1):
        if isinstance(one, dict):
            where = f" ({one['file']}:{one.get('line') or 1})" if one.get("file") else ""
            say(f"  {number}. " + lines.one(f"{one.get('title', '')}{where}"))
    say("")


def save(files: Iterable[Artifact], folder: Path) -> Iterable[Path]:
    """Write artifacts under a folder, by sortie and path, one after another; the paths that were written."""
    for file in files:
        # A slash of a matrix's value or of a part must not lead out of the folder.
        target = folder / file.sortie.key.replace("/", "_") / file.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with collection.open_stored(file) as source, target.open("wb") as copy:
                copy.writelines(source.chunks())
        except OSError as fault:
            raise errors.FleetError(
                f"{target} cannot be written: {fault.strerror}.",
                hint="The fleet keeps the file. Write it to another folder: "
                + invocation.command("fleet_mission", "artifacts", file.sortie.mission.ref, "--save", "FOLDER"),
            ) from fault
        yield target
