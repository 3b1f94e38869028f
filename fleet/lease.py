"""Computes when the holder of a lease must stop: one definition for the engine, the shim and the system check.

In the database, a lease starts when the database grants it. The holder counts from its earlier request, on its own
monotonic clock, and subtracts a margin. So everything that the attempt started is killed before the database can give
the work to another agent: SIGTERM comes a grace period before `end`, SIGKILL at `end` at the latest.
"""

from __future__ import annotations

MARGIN_S = 2.0  # of a long lease: for SIGKILL to take effect, and for clocks that run at different speeds


def margin_s(lease_s: float) -> float:
    return min(MARGIN_S, lease_s / 4)


def end(*, requested_at: float, lease_s: float) -> float:
    """Return when everything of an attempt must have ended, on the monotonic clock of `requested_at`."""
    return requested_at + lease_s - margin_s(lease_s)


def shortest_s(*, grace_s: float, renew_s: float) -> float:
    """Return the shortest lease that leaves time to stop the workload after two failed renewals."""
    stopping_s = grace_s + 2 * renew_s
    return stopping_s + MARGIN_S if stopping_s >= 3 * MARGIN_S else stopping_s * 4 / 3
