"""How long a lease may be relied on: one definition for the engine, the shim and the check at start.

The database counts a lease from when it answers; whoever holds it counts from when it *asked*, on its own monotonic
clock, and gives it up early by a margin. So by the time the database may give the work to another, all that the
attempt started has been killed: SIGTERM comes a grace period before `end`, SIGKILL at `end` at the latest.
"""

from __future__ import annotations

MARGIN_S = 2.0  # of a long lease; for SIGKILL to take effect, and for clocks that do not run equally fast


def margin_s(lease_s: float) -> float:
    return min(MARGIN_S, lease_s / 4)


def end(*, requested_at: float, lease_s: float) -> float:
    """When everything of an attempt must be gone, on the monotonic clock that told `requested_at`."""
    return requested_at + lease_s - margin_s(lease_s)


def shortest_s(*, grace_s: float, renew_s: float) -> float:
    """The shortest lease that leaves room to stop the work after two renewals have failed."""
    needed = grace_s + 2 * renew_s
    return needed + MARGIN_S if needed >= 3 * MARGIN_S else needed * 4 / 3
