"""Tab completion of missions, sorties, schedules, agents, their types and nodes. Without a database there is none."""

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
from missions.queries import mission_lookup
from missions.queries import schedules as schedule_queries

TIMEOUT_S = 2.0
MAX_MISSIONS, MAX_SORTIES = 50, 500


def complete(*arguments: Action, by: Callable[..., list[str]]) -> None:
    """Register `by` with argcomplete as the completer of these arguments."""
    for argument in arguments:
        argument.completer = by  # type: ignore[attr-defined]


def missions(prefix: str = "", **_: Any) -> list[str]:
    """`latest`, and the ids of the last missions, newest first."""
    with _suppress_errors() as offers:
        recent = Mission.objects.order_by("-id").values_list("id", flat=True)[:MAX_MISSIONS]
        offers += ["latest", *(ids.encode(ids.MISSION, id) for id in recent)]
    return [offer for offer in offers if offer.startswith(prefix)]


def sorties(prefix: str = "", *, parsed_args: Namespace, **_: Any) -> list[str]:
    """The keys of the sorties of the mission already named on the command line, in the plan's order."""
    with _suppress_errors() as offers:
        matches = Sortie.objects.filter(mission=mission_lookup.find(parsed_args.mission), key__startswith=prefix)
        offers += matches.order_by("turn", "id").values_list("key", flat=True)[:MAX_SORTIES]
    return offers


def agents(prefix: str = "", **_: Any) -> list[str]:
    """The names of the live agents."""
    with _suppress_errors() as offers:
        offers += [agent.name for agent in live()]
    return [offer for offer in offers if offer.startswith(prefix)]


def types(prefix: str = "", **_: Any) -> list[str]:
    with _suppress_errors() as offers:
        offers += AgentType.objects.filter(name__startswith=prefix).order_by("name").values_list("name", flat=True)
    return offers


def schedules(prefix: str = "", **_: Any) -> list[str]:
    with _suppress_errors() as offers:
        offers += schedule_queries.names()
    return [offer for offer in offers if offer.startswith(prefix)]


def nodes(prefix: str = "", **_: Any) -> list[str]:
    with _suppress_errors() as offers:
        offers += Node.objects.filter(name__startswith=prefix).order_by("name").values_list("name", flat=True)
    return offers


@contextmanager
def _suppress_errors() -> Iterator[list[str]]:
    """A list to fill. Any error, and a database slower than TIMEOUT_S, leaves it as it is."""

    def on_alarm(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT_S)
    try:
        yield []
    except Exception:  # an error must not appear in a shell's prompt; the command itself will report it
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
