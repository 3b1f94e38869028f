"""The budget of CPU time for each user's costly requests: FLEET_LIMIT_COST_S per minute.

It is counted per user, because a user may have several addresses and keys. The cost is added to Redis, in milliseconds,
after the request. So the last request of a minute may exceed the budget; the cost of a single request has a limit of
its own.
"""

from __future__ import annotations

import time
from contextlib import suppress
from contextvars import ContextVar

from django.conf import settings
from django.core.cache import cache

from fleet import errors
from fleet.limits.counting import RemainingQuota

WINDOW_S = 60
_external_costs: ContextVar[list[float] | None] = ContextVar("fleet_costs", default=None)


class BudgetExceeded(errors.RateLimited):
    """The budget of this minute is used up; `quota` says when the next one begins."""

    def __init__(self, quota: RemainingQuota) -> None:
        super().__init__(
            f"Your requests have used up the {quota.limit} s of CPU time that each user has per minute.",
            hint=f"Try again in {quota.reset_s} s.",
        )
        self.quota = quota


def check(user: int) -> None:
    """Raise BudgetExceeded if the user's budget of this minute is used up."""
    limit = settings.FLEET_LIMIT_COST_S
    if limit and cache.get(_key(user), 0) >= limit * 1_000:
        reset_s = WINDOW_S - int(time.time()) % WINDOW_S
        raise BudgetExceeded(RemainingQuota(limit=max(1, round(limit)), remaining=0, reset_s=reset_s, refused=True))


def begin() -> None:
    """Start collecting costs of this request with `add`."""
    _external_costs.set([])


def add(seconds: float) -> None:
    """Add CPU time that another process used for this request."""
    if (costs := _external_costs.get()) is not None:
        costs.append(seconds)


def charge(user: int, seconds: float) -> None:
    """Charge the user for a request: its time in this process, plus what was added with `add`."""
    total_ms = round(1_000 * (seconds + sum(_external_costs.get() or ())))
    if total_ms > 0:
        key = _key(user)  # once: the next minute may begin meanwhile
        if not cache.add(key, total_ms, WINDOW_S + 1):
            with suppress(ValueError):  # Redis has just lost it, as it may
                cache.incr(key, total_ms)


def _key(user: int) -> str:
    return f"cost:{user}:{int(time.time()) // WINDOW_S}"
