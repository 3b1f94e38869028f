"""Every state and every arrow, in one table.

The statements in `missions/sql` make these moves; a test holds them (by the events that they write) and the page
docs/states.md to this table. Letters are those of the page.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import TextChoices


class MissionState(TextChoices):
    PLANNED = "planned"  # accepted and waiting to be started by hand (create)
    RUNNING = "running"  # the control loop and the agents work on it
    PAUSED = "paused"  # by hand: what runs may finish, nothing starts, nothing completes
    CANCELLING = "cancelling"  # by hand: running sorties are being stopped
    SUCCEEDED = "succeeded"  # every sortie ended well, was tolerated, or ran `if: always`
    FAILED = "failed"  # all have ended and at least one, not tolerated, did not end well
    CANCELLED = "cancelled"  # by hand; everything has been stopped

    @property
    def final(self) -> bool:
        return self in (MissionState.SUCCEEDED, MissionState.FAILED, MissionState.CANCELLED)


class SortieState(TextChoices):
    PENDING = "pending"  # a need has not ended yet
    WAITING = "waiting"  # for a time: a retry's backoff or a `run_at`
    READY = "ready"  # may start as soon as the control loop admits it: a concurrency key, or a paused mission
    QUEUED = "queued"  # any agent of its type may claim it
    RUNNING = "running"  # an agent flies it under a lease
    SUCCEEDED = "succeeded"  # an attempt's claim of success was verified and accepted
    FAILED = "failed"  # no try is left, or it killed its workers too often
    SKIPPED = "skipped"  # one of its needs did not end well, or the mission stops on failure
    CANCELLED = "cancelled"  # by hand

    @property
    def final(self) -> bool:
        return self in (SortieState.SUCCEEDED, SortieState.FAILED, SortieState.SKIPPED, SortieState.CANCELLED)


class Arrow(NamedTuple):
    letter: str
    sources: frozenset[str]  # empty: the row is made
    target: str
    by: str  # what moves it
    why: str


def _arrow(letter: str, sources: str, target: str, by: str, why: str) -> Arrow:
    return Arrow(letter, frozenset(sources.split()), target, by, why)


SORTIE_ARROWS = (
    _arrow("a", "", "pending", "launch, settle", "it has needs that have not ended"),
    _arrow("b", "", "ready", "launch, settle", "it needs nothing, and must be admitted"),
    _arrow("c", "", "queued", "launch, settle", "it needs nothing, and nothing holds it back"),
    _arrow("d", "pending", "ready", "settle, sweep", "its last need has ended; it must be admitted"),
    _arrow("e", "pending", "queued", "settle, sweep", "its last need has ended; nothing holds it back"),
    _arrow("f", "pending waiting ready queued", "skipped", "settle", "a need did not end well, or the mission stops"),
    _arrow(
        "g",
        "ready",
        "queued",
        "admit",
        "each of its limits has a place, an agent serves its type, and its mission runs",
    ),
    _arrow("h", "ready", "waiting", "admit", "its run_at has not come"),
    _arrow("i", "waiting", "ready", "wake", "its time has come"),
    _arrow("k", "queued", "running", "claim", "an agent has taken it: attempt + 1, a lease"),
    _arrow("l", "running", "succeeded", "settle", "the verdict on its evidence is good"),
    _arrow("m", "running", "waiting", "settle", "it failed and a try is left: backoff"),
    _arrow("n", "running", "failed", "settle, rescue", "it failed and no try is left, or it was rescued too often"),
    _arrow("o", "running", "cancelled", "settle, rescue", "it was stopped because somebody cancelled it"),
    _arrow("p", "running", "queued", "return, rescue", "unstarted, drained, or its agent is gone; costs no try"),
    _arrow(
        "q",
        "running queued",
        "ready",
        "pause, return, rescue, admit",
        "its mission is paused, or its place under a limit was taken back: no agent serves its type, the limit was lowered,"
        " or something more urgent waits",
    ),
    _arrow("r", "pending waiting ready queued", "cancelled", "cancel", "somebody cancelled it before it ran"),
    _arrow(
        "s",
        "failed cancelled skipped succeeded waiting ready queued",
        "pending",
        "retry",
        "somebody reopened it, or something that it runs after",
    ),
)

MISSION_ARROWS = (
    _arrow("A", "", "planned", "launch", "it was created, to be started later"),
    _arrow("B", "", "running", "launch", "it was launched"),
    _arrow("C", "planned paused", "running", "resume", "somebody started it or let it go on"),
    _arrow("D", "running", "paused", "pause", "somebody paused it"),
    _arrow("E", "planned running paused", "cancelling", "cancel", "somebody cancelled it"),
    _arrow("F", "running", "succeeded", "complete", "all sorties have ended, well or tolerated"),
    _arrow("G", "running", "failed", "complete", "all sorties have ended, one of them not well"),
    _arrow("H", "cancelling", "cancelled", "complete", "everything has been stopped"),
    _arrow("I", "succeeded failed cancelled", "running", "retry", "somebody reopened sorties of it"),
)


def allowed(arrows: tuple[Arrow, ...], source: str | None, target: str) -> bool:
    """Whether the table has an arrow from `source` (None: the row is made) to `target`."""
    return any(
        arrow.target == target and (source in arrow.sources if source else not arrow.sources) for arrow in arrows
    )
