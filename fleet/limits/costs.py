"""What a user's costly requests may take of the processors: FLEET_LIMIT_COST_S in each minute, however many requests that is.

Counted by user and not by address or key, of which one may have several; in Redis, in milliseconds, after the request. So the
last one of a minute may take more than was left, and how long one takes has a bound of its own.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

from django.conf import settings
from django.core.cache import cache

from fleet import errors
from fleet.limits.counting import Standing

WINDOW_S = 60
_elsewhere: ContextVar[list[float] | None] = ContextVar("fleet_costs", default=None)


class Refused(errors.RateLimited):
    """Too much work; `standing` says until when."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(
            f"Your requests took the {standing.limit} s of processor time that one user has in a minute.",
            hint=f"Try again in {standing.reset_s} s.",
        )
        self.standing = standing


def ask(user: int) -> None:
    """Refused where the user's share of this minute is used up."""
    limit = settings.FLEET_LIMIT_COST_S
    if limit and cache.get(_key(user), 0) >= limit * 1_000:
        reset_s = WINDOW_S - int(time.time()) % WINDOW_S
        raise Refused(Standing(limit=max(1, round(limit)), remaining=0, reset_s=reset_s, refused=True))


def begin() -> None:
    """From now on `add` is about this request."""
    _elsewhere.set([])


def add(seconds: float) -> None:
    """Processor time that another process took for this request."""
    if (costs := _elsewhere.get()) is not None:
        costs.append(seconds)


def charge(user: int, seconds: float) -> None:
    """Count what a request took here, and what it took elsewhere."""
    total_ms = round(1_000 * (seconds + sum(_elsewhere.get() or ())))
    if total_ms > 0:
        cache.add(_key(user), 0, WINDOW_S + 1)
        cache.incr(_key(user), total_ms)


def _key(user: int) -> str:
    return f"cost:{user}:{int(time.time()) // WINDOW_S}"
