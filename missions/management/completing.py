"""What the Tab key offers for missions, sorties, agents, their types and nodes.

Quiet and quick: without a database it offers nothing.
"""

from __future__ import annotations

import signal
from argparse import Action, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from agents.models import AgentType, Node
from agents.queries import live
from fleet import ids
from missions.models import Mission, Sortie
from missions.queries import reads

PATIENCE_S = 2.0
MOST_MISSIONS, MOST_SORTIES = 50, 500


def completed(*arguments: Action, by: Callable[..., list[str]]) -> None:
    """Let argcomplete ask `by` for what the arguments may be."""
    for argument in arguments:
        argument.completer = by  # type: ignore[attr-defined]


def missions(prefix: str = "", **_: Any) -> list[str]:
    """`latest`, and the ids of the last missions, the newest first."""
    with quietly() as found:
        recent = Mission.objects.order_by("-id").values_list("id", flat=True)[:MOST_MISSIONS]
        found += ["latest", *(ids.encode(ids.MISSION, id) for id in recent)]
    return [one for one in found if one.startswith(prefix)]


def sorties(prefix: str = "", *, parsed_args: Namespace, **_: Any) -> list[str]:
    """The keys of the mission that stands before it, in the plan's order."""
    with quietly() as found:
        there = Sortie.objects.filter(mission=reads.find(parsed_args.mission), key__startswith=prefix)
        found += there.order_by("turn", "id").values_list("key", flat=True)[:MOST_SORTIES]
    return found


def agents(prefix: str = "", **_: Any) -> list[str]:
    """The names of the live agents."""
    with quietly() as found:
        found += [agent.name for agent in live()]
    return [one for one in found if one.startswith(prefix)]


def types(prefix: str = "", **_: Any) -> list[str]:
    with quietly() as found:
        found += AgentType.objects.filter(name__startswith=prefix).order_by("name").values_list("name", flat=True)
    return found


def nodes(prefix: str = "", **_: Any) -> list[str]:
    with quietly() as found:
        found += Node.objects.filter(name__startswith=prefix).order_by("name").values_list("name", flat=True)
    return found


@contextmanager
def quietly() -> Iterator[list[str]]:
    """A list to fill. Whatever goes wrong leaves it as it is, and so does a database that takes longer than two seconds."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield []
    except Exception:  # a shell's prompt is no place for errors; the command itself will tell them
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
