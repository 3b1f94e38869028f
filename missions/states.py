"""Every state and every transition ("arrow") of missions and sorties, in one table.

The statements in `missions/**/sql` carry out these transitions. Tests check their events and the page docs/states.md
against this table. The letters are those of the page.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import TextChoices


class MissionState(TextChoices):
    PLANNED = "planned"  # created, to be started with `resume`
    RUNNING = "running"  # the control loop and the agents work on it
    PAUSED = "paused"  # by a user: running sorties may finish, nothing starts, and the mission does not complete
    CANCELLING = "cancelling"  # by a user: running sorties are being stopped
    SUCCEEDED = "succeeded"  # no sortie ended badly (see `ended_badly`)
    FAILED = "failed"  # all sorties have ended, at least one of them badly
    CANCELLED = "cancelled"  # by a user; everything has stopped

    @property
    def final(self) -> bool:
        return self in (MissionState.SUCCEEDED, MissionState.FAILED, MissionState.CANCELLED)


FINAL_MISSION_STATES = [state.value for state in MissionState if state.final]


class SortieState(TextChoices):
    PENDING = "pending"  # a need has not ended yet
    WAITING = "waiting"  # waits for a time (a retry's backoff, a `run_at`), a merge or a person: `WaitsOn`
    READY = "ready"  # may start once the control loop admits it; for example, a limit applies or its mission is paused
    QUEUED = "queued"  # any agent of its type may claim it
    RUNNING = "running"  # an agent runs it under a lease
    SUCCEEDED = "succeeded"  # an attempt's success was verified and accepted
    FAILED = "failed"  # no try is left, or it was rescued too often
    SKIPPED = "skipped"  # one of its needs ended badly, or the mission stops on failure
    CANCELLED = "cancelled"  # by a user

    @property
    def final(self) -> bool:
        return self in (SortieState.SUCCEEDED, SortieState.FAILED, SortieState.SKIPPED, SortieState.CANCELLED)


FINAL_SORTIE_STATES = [state.value for state in SortieState if state.final]
_ENDED = {"succeeded": "has succeeded", "failed": "has failed", "skipped": "was skipped", "cancelled": "was cancelled"}


def predicate(state: str) -> str:
    """The state of a mission or a sortie as the predicate of a sentence: `is running`, `has succeeded`."""
    return _ENDED.get(state, f"is {state}")


def ended_badly(*, state: str, tolerated: bool) -> bool:
    """Whether a sortie ended in a way that fails its mission and skips its dependents.

    `tolerated` is the sortie's `allow_failure`. Statements have the same rule as `@missions.sortie_ended_badly(…)`.
    """
    return state in (SortieState.SKIPPED, SortieState.CANCELLED) or (state == SortieState.FAILED and not tolerated)


class Arrow(NamedTuple):
    """A transition from any of `sources` to `target`."""

    letter: str
    sources: frozenset[str]  # empty: the row is created
    target: str
    by: str  # the operations that perform it
    why: str


def _arrow(letter: str, sources: str, target: str, by: str, why: str) -> Arrow:
    return Arrow(letter, frozenset(sources.split()), target, by, why)


def _restore_arrows(letter: str, target: str, sources: str, *, created: bool = False) -> tuple[Arrow, ...]:
    """The transitions by which a checkpoint puts a row back, or creates it again."""
    moved = _arrow(letter, sources, target, "restore", "a checkpoint recorded this state")
    return (moved, _arrow(f"{letter}0", "", target, "restore, fork", moved.why)) if created else (moved,)


SORTIE_ARROWS = (
    _arrow("a", "", "pending", "launch, settle", "it has needs that have not ended"),
    _arrow("b", "", "ready", "launch, settle", "it has no needs, and must be admitted"),
    _arrow("c", "", "queued", "launch, settle", "it has no needs, and nothing else holds it back"),
    _arrow("d", "pending", "ready", "settle, sweep", "its last need has ended; it must be admitted"),
    _arrow("e", "pending", "queued", "settle, sweep", "its last need has ended; nothing else holds it back"),
    _arrow(
        "f", "pending waiting ready queued", "skipped", "settle", "a need ended badly, or the mission stops on failure"
    ),
    _arrow(
        "g",
        "ready",
        "queued",
        "admit",
        "its limits leave room, an agent serves its type, and its mission runs",
    ),
    _arrow("h", "ready", "waiting", "admit", "its run_at is in the future"),
    _arrow(
        "i",
        "waiting",
        "ready",
        "wake, settle, resolve",
        "its time has come; the lane of its branch is free, but a limit applies; or a person decided",
    ),
    _arrow("j", "waiting", "queued", "settle, sweep", "its work is committed, and the lane of its branch is free"),
    _arrow("k", "queued", "running", "claim", "an agent claimed it: attempt + 1, a lease"),
    _arrow("l", "running", "succeeded", "settle", "the verdict on its evidence is good"),
    _arrow(
        "m",
        "running",
        "waiting",
        "settle",
        "it failed and a try is left: backoff; or its work is committed, and waits for a merge, its next attempt or a person",
    ),
    _arrow("n", "running", "failed", "settle, rescue", "it failed and no try is left, or it was rescued too often"),
    _arrow("o", "running", "cancelled", "settle, rescue", "it was stopped because a user cancelled it"),
    _arrow(
        "p",
        "running",
        "queued",
        "return, rescue",
        "it had not started, its agent drained, or its agent was lost; costs no try",
    ),
    _arrow(
        "q",
        "running queued",
        "ready",
        "pause, return, rescue, admit",
        "its mission is paused, or it lost its place under a limit: no agent serves its type, the limit was lowered, or"
        " a more urgent sortie is waiting",
    ),
    _arrow("r", "pending waiting ready queued", "cancelled", "cancel", "a user cancelled it before it ran"),
    _arrow(
        "s",
        "failed cancelled skipped succeeded waiting ready queued",
        "pending",
        "retry",
        "a user reopened it, or a sortie that it needs",
    ),
    *_restore_arrows("t", "pending", "ready waiting queued running succeeded failed skipped cancelled"),
    *_restore_arrows("u", "ready", "pending waiting queued running succeeded failed skipped cancelled"),
    *_restore_arrows(
        "v", "waiting", "pending ready waiting queued running succeeded failed skipped cancelled", created=True
    ),
    *_restore_arrows(
        "w", "succeeded", "pending ready waiting queued running succeeded failed skipped cancelled", created=True
    ),
    *_restore_arrows(
        "x", "failed", "pending ready waiting queued running succeeded failed skipped cancelled", created=True
    ),
    *_restore_arrows(
        "y", "skipped", "pending ready waiting queued running succeeded failed skipped cancelled", created=True
    ),
    *_restore_arrows(
        "z", "cancelled", "pending ready waiting queued running succeeded failed skipped cancelled", created=True
    ),
)

MISSION_ARROWS = (
    _arrow("A", "", "planned", "launch", "it was created, to be started later"),
    _arrow("B", "", "running", "launch", "it was launched"),
    _arrow("C", "planned paused", "running", "resume", "a user started or resumed it"),
    _arrow("D", "running", "paused", "pause", "a user paused it"),
    _arrow("E", "planned running paused", "cancelling", "cancel", "a user cancelled it"),
    _arrow("F", "running", "succeeded", "complete", "all sorties have ended, none of them badly"),
    _arrow("G", "running", "failed", "complete", "all sorties have ended, at least one of them badly"),
    _arrow("H", "cancelling", "cancelled", "complete", "everything has stopped"),
    _arrow("I", "succeeded failed cancelled", "running", "retry", "a user reopened some of its sorties"),
    *_restore_arrows("J", "paused", "planned running paused succeeded failed cancelled", created=True),
    *_restore_arrows("K", "succeeded", "planned running paused succeeded failed cancelled", created=True),
    *_restore_arrows("L", "failed", "planned running paused succeeded failed cancelled", created=True),
    *_restore_arrows("M", "cancelled", "planned running paused succeeded failed cancelled", created=True),
)


def allowed(arrows: tuple[Arrow, ...], source: str | None, target: str) -> bool:
    """Whether the table has an arrow from `source` (None: the row is created) to `target`."""
    return any(
        arrow.target == target and (source in arrow.sources if source else not arrow.sources) for arrow in arrows
    )
