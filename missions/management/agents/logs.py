"""`fleet_agents logs`: the output of an agent's own process, or of the attempts that it ran; from any host."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from agents import queries
from agents.models import Agent
from fleet import errors
from fleet.console import arguments, invocation, json_output, lines
from fleet.management.operator import OperatorCommand
from missions import claims
from missions.management import completion, mission_output
from missions.models import Attempt
from missions.queries.transcripts import Piece, Transcript

POLL_S = 0.3
MAX_ATTEMPTS = 100  # the agent's last ones


def add_arguments(actions: Any) -> None:
    logs = actions.add_parser("logs", help="show the output of an agent or of its sorties")
    agent = logs.add_argument("agent", help="its id (agt_…) or its name (backend-1)")
    completion.complete(agent, by=completion.agents)
    logs.add_argument(
        "-f", "--follow", action="store_true", help="keep showing output until the agent (or the attempt) has ended"
    )
    logs.add_argument("--lines", type=arguments.count, metavar="N", help="only the last N lines of its own output")
    source = logs.add_mutually_exclusive_group()
    source.add_argument(
        "--sorties", action="store_true", help=f"show the output of its last {MAX_ATTEMPTS} attempts instead"
    )
    source.add_argument("--attempt", metavar="srt_…/N", help="show the output of this attempt instead")
    output_format = logs.add_mutually_exclusive_group()
    output_format.add_argument("--json", action="store_true", help="print one JSON document")
    output_format.add_argument("--jsonl", action="store_true", help="print one JSON document per chunk of output")


def act(command: OperatorCommand, options: dict[str, Any]) -> int:
    if options["lines"] is not None and (options["attempt"] or options["sorties"]):
        raise errors.Invalid(
            "--lines works only with an agent's own output.", hint="Leave it out, or pipe the output into `tail`."
        )
    agent = queries.find(options["agent"])
    follow = options["follow"]
    if options["attempt"]:
        pieces = _output_of_attempt(agent, options["attempt"], follow=follow)
    elif options["sorties"]:
        pieces = _output_of_sorties(agent, follow=follow)
    else:
        pieces = _own_output(agent, last=options["lines"], follow=follow)
    if options["json"]:
        json_output.write_array(lambda text: command.stdout.write(text, ending=""), pieces)
        command.stdout.write("")
    elif options["jsonl"]:
        for piece in pieces:
            command.stdout.write(json.dumps(piece))
            command.stdout.flush()
    elif not _print(pieces):
        command.say(f"No output of {agent} is stored.")
    return 0


def _print(pieces: Iterable[Piece]) -> bool:
    """Print the pieces, with control characters made visible. Return whether there were any."""
    heading, line_ended, has_output = "", True, False
    for piece in pieces:
        has_output = True
        if "key" in piece:
            previous, heading = heading, f"{lines.one_line(piece['key'])} ({piece['sortie']}/{piece['attempt']})"
            if heading != previous:
                sys.stdout.write(("" if line_ended else "\n") + f"==> {heading} <==\n")
                sys.stdout.flush()
        line_ended = piece["text"].endswith("\n")
        stream = sys.stderr if piece.get("stream") == "stderr" else sys.stdout
        stream.write(lines.terminal_safe(piece["text"]))
        stream.flush()
    return has_output


def _own_output(agent: Agent, *, last: int | None, follow: bool) -> Iterator[Piece]:
    """`{at, text}`: all that the agent's process printed, or its `last` lines, and with `follow` what comes after."""
    after = 0
    if last is not None:
        pieces = queries.last_lines(agent, lines=last)
        after = pieces[-1].id if pieces else queries.log(agent).values_list("id", flat=True).last() or 0
        yield from ({"at": piece.at.isoformat(), "text": piece.text} for piece in pieces)
    for _ in _polls(agent, follow=follow):
        for piece in queries.log(agent, after=after).iterator():
            after = piece.id
            yield {"at": piece.at.isoformat(), "text": piece.text}


def _polls(agent: Agent, *, follow: bool) -> Iterator[None]:
    """Yield once; with `follow`, yield until the agent has ended, and once more for what it printed last."""
    while True:
        last = not follow or not Agent.objects.filter(id=agent.id, state__in=Agent.LIVE).exists()
        yield
        if last:
            return
        time.sleep(POLL_S)


def _output_of_attempt(agent: Agent, reference: str, *, follow: bool) -> Iterator[Piece]:
    if not re.fullmatch(r"srt_\w+/[0-9]{1,9}", reference, re.ASCII):
        raise errors.Invalid(f"{lines.one_line(reference)!r} is not an attempt.", hint="Write it as srt_01j…/2.")
    sortie, number = claims.parse_marker(reference)
    attempt = Attempt.objects.select_related("sortie", "agent").filter(sortie=sortie, number=number).first()
    if attempt is None:
        raise errors.NotFound(
            f"There is no attempt {reference}.", hint=f"See: {invocation.command('fleet_mission', 'show', 'latest')}"
        )
    if attempt.agent_id != agent.id:
        other = attempt.agent.ref if attempt.agent else "an agent whose row has been removed"
        raise errors.Conflict(f"{agent} did not run {reference}.", hint=f"It was run by {other}.")
    return mission_output.output_of_sortie(sortie=attempt.sortie, attempt=number, follow=follow)


def _output_of_sorties(agent: Agent, *, follow: bool) -> Iterator[Piece]:
    transcript = Transcript(Attempt.objects.filter(agent=agent), limit=MAX_ATTEMPTS)
    for _ in _polls(agent, follow=follow):
        yield from transcript.read()
