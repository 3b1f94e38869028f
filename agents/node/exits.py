"""Decides what follows from the exit of an agent's process: the final state of its row, and whether it is replaced."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.conf import settings

from agents.models import Agent
from agents.node.posts import Post

STEADY_S = 60.0  # an agent that lived this long resets the count of crashes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The consequences of one exit."""

    state: Agent.State
    reason: str
    cause: str  # "signal 9" or "exit code 1"
    came_up: bool  # it had reported to the fleet
    crashes: int  # in a row, with this one
    ordered: bool  # it ended because it was ordered to
    given_up: bool  # it failed too often, or never came up after it was ordered: no successor


def judge(post: Post, *, code: int, row_state: str | None) -> Exit:
    """Judge the exit of the agent at a post. `row_state` is the state of its row, which may be `lost` already."""
    cause = f"signal {-code}" if code < 0 else f"exit code {code}"
    ordered = bool(post.last_order)
    came_up = row_state not in {Agent.State.SPAWNING, Agent.State.FAILED}
    crashes = post.crashes
    if ordered or (came_up and time.monotonic() - post.started_at > STEADY_S):
        crashes = 0
    if not ordered and row_state != Agent.State.LOST:  # a lost agent was halted or cut off, and did not crash
        crashes += 1
    given_up = not ordered and (
        crashes > settings.FLEET_MAX_CRASHES or not (came_up or post.has_started or post.permanent)
    )
    if ordered:
        state = Agent.State.TERMINATED
        verb = "stop now" if post.last_order == Agent.Order.NOW else post.last_order
        reason = f"It was ordered to {verb}."
    elif not came_up:
        state = Agent.State.FAILED
        advice = ", then spawn a new agent" if given_up else ""
        reason = f"Its process ended with {cause} before it reported; see its log{advice}."
    elif given_up:
        state = Agent.State.FAILED
        reason = (
            f"Its process ended with {cause}. That was crash {crashes} in a row, so it is not started again. "
            "See its log, then spawn a new agent."
        )
    else:
        state, reason = Agent.State.LOST, f"Its process ended with {cause}; see its log."
    return Exit(
        state=state, reason=reason, cause=cause, came_up=came_up, crashes=crashes, ordered=ordered, given_up=given_up
    )
