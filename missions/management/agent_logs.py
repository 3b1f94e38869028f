"""`fleet_agents logs`: what an agent's own process printed, and what the attempts that it flew did; from any host."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from agents import queries
from agents.models import Agent
from fleet import errors, ids, invocation
from fleet.console import arguments, documents, lines
from fleet.management.operator import OperatorCommand
from missions import claims
from missions.management import completing, showing
from missions.models import Attempt
from missions.queries.transcripts import Piece, Transcript

LOOK_S = 0.3
MOST_ATTEMPTS = 100  # of an agent, the last ones


def add_arguments(actions: Any) -> None:
    logs = actions.add_parser("logs", help="show what an agent or its sorties printed")
    named = logs.add_argument("agent", help="its id (agt_…) or its name (backend-1)")
    completing.completed(named, by=completing.agents)
    logs.add_argument(
        "-f", "--follow", action="store_true", help="keep showing output until the agent (or the attempt) has ended"
    )
    logs.add_argument("--lines", type=arguments.count, metavar="N", help="only the last N lines of its own output")
    what = logs.add_mutually_exclusive_group()
    what.add_argument(
        "--sorties", action="store_true", help=f"show the output of its last {MOST_ATTEMPTS} attempts instead"
    )
    what.add_argument("--attempt", metavar="srt_…/N", help="show the output of this attempt instead")
    form = logs.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document")
    form.add_argument("--jsonl", action="store_true", help="print one JSON document per piece of output")


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    if options["lines"] is not None and (options["attempt"] or options["sorties"]):
        raise errors.Invalid(
            "--lines only works with an agent's own output.", hint="Leave it out, or pipe into `tail`."
        )
    agent = queries.find(options["agent"])
    follow = options["follow"]
    if options["attempt"]:
        pieces = _of_attempt(agent, options["attempt"], follow=follow)
    elif options["sorties"]:
        pieces = _of_sorties(agent, follow=follow)
    else:
        pieces = _own(agent, last=options["lines"], follow=follow)
    if options["json"]:
        documents.array(lambda text: command.stdout.write(text, ending=""), pieces)
        command.stdout.write("")
    elif options["jsonl"]:
        for piece in pieces:
            command.stdout.write(json.dumps(piece))
            command.stdout.flush()
    elif not _tell(pieces):
        command.say(f"No output of {agent} is stored.")
    return 0


def _tell(pieces: Iterable[Piece]) -> bool:
    """As it was printed, but for what could steer a terminal; whether there was anything."""
    head, ended, anything = "", True, False
    for piece in pieces:
        anything = True
        if "key" in piece and head != (head := f"{lines.one(piece['key'])} ({piece['sortie']}/{piece['attempt']})"):
            sys.stdout.write(("" if ended else "\n") + f"==> {head} <==\n")
            sys.stdout.flush()
        ended = piece["text"].endswith("\n")
        stream = sys.stderr if piece.get("stream") == "stderr" else sys.stdout
        stream.write(lines.printed(piece["text"]))
        stream.flush()
    return anything


def _own(agent: Agent, *, last: int | None, follow: bool) -> Iterator[Piece]:
    """`{at, text}`"""
    after = 0
    if last is not None:
        found = queries.last_lines(agent, lines=last)
        after = found[-1].id if found else queries.log(agent).values_list("id", flat=True).last() or 0
        yield from ({"at": piece.at.isoformat(), "text": piece.text} for piece in found)
    for _ in _looks(agent, follow=follow):
        for piece in queries.log(agent, after=after).iterator():
            after = piece.id
            yield {"at": piece.at.isoformat(), "text": piece.text}


def _looks(agent: Agent, *, follow: bool) -> Iterator[None]:
    """One, or again and again until the agent has ended, and once after that."""
    while True:
        over = not follow or not Agent.objects.filter(id=agent.id, state__in=Agent.LIVE).exists()
        yield
        if over:
            return
        time.sleep(LOOK_S)


def _of_attempt(agent: Agent, reference: str, *, follow: bool) -> Iterator[Piece]:
    if not re.fullmatch(r"srt_\w+/[0-9]{1,9}", reference, re.ASCII):
        raise errors.Invalid(f"{lines.one(reference)!r} names no attempt.", hint="Write it as srt_01j…/2.")
    sortie, number = claims.parse_marker(reference)
    attempt = Attempt.objects.select_related("sortie", "agent").filter(sortie=sortie, number=number).first()
    if attempt is None:
        raise errors.NotFound(
            f"There is no attempt {reference}.", hint=f"See: {invocation.command('fleet_mission', 'show', 'latest')}"
        )
    if attempt.agent_id != agent.id:
        whose = attempt.agent.ref if attempt.agent else "an agent that is no more known"
        raise errors.Conflict(f"{agent} did not fly {reference}.", hint=f"It was flown by {whose}.")
    log = showing.Log(sortie=attempt.sortie, attempt=number)
    return (
        {
            "mission": ids.encode(ids.MISSION, attempt.sortie.mission_id),
            "sortie": attempt.sortie.ref,
            "key": attempt.sortie.key,
            "attempt": number,
            "stream": piece.stream,
            "at": piece.at.isoformat(),
            "text": piece.text,
        }
        for piece in log.pieces(follow=follow)
    )


def _of_sorties(agent: Agent, *, follow: bool) -> Iterator[Piece]:
    transcript = Transcript(Attempt.objects.filter(agent=agent), most=MOST_ATTEMPTS)
    for _ in _looks(agent, follow=follow):
        yield from transcript.read()
