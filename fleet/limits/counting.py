"""Rate limits: counts requests per bucket, and refuses those above the rate.

django-ratelimit counts in fixed windows, which begin at a different moment for each bucket. One atomic increment in
Redis counts a request, so the limit is exact for any number of processes. Around the boundary of two windows, twice the
rate can pass in a short time, because a bucket is only one number.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from django.db import DatabaseError
from django.http import HttpRequest
from django_ratelimit.core import get_usage

from fleet import audit, errors, humanise
from fleet.limits import addresses, rates
from fleet.limits.rates import Rate, RequestKind

log = logging.getLogger("fleet.limits")

TRIES = 3  # attempts to count a request, if Redis goes away or comes back between two commands


@dataclass(frozen=True, slots=True, kw_only=True)
class RemainingQuota:
    """What is left of a rate limit after a request."""

    limit: int  # 0: unlimited
    remaining: int
    reset_s: int  # until the window ends
    refused: bool = False


UNLIMITED = RemainingQuota(limit=0, remaining=0, reset_s=0)


class TooManyRequests(errors.RateLimited):
    """The rate limit is exceeded; `quota` says when the window ends."""

    def __init__(self, quota: RemainingQuota) -> None:
        super().__init__(
            f"Too many requests: the limit is {quota.limit} in this window.",
            hint=f"Try again in {humanise.duration(quota.reset_s)}.",
        )
        self.quota = quota


def charge(
    *, request: HttpRequest, kind: RequestKind, identity: str = "", role: str = "", route: str = ""
) -> RemainingQuota:
    """Count one request at the configured rate of its kind and role.

    `identity`: the id of a key, user or agent; by default the client's address.
    `route`: an action. If the settings give it its own rate, it is counted separately.
    """
    identity = identity or addresses.bucket(addresses.client(request))
    if (route_rate := rates.for_route(route)) is not None:
        return spend(request=request, bucket=f"{kind}:{identity}:{route}", rate=route_rate)
    return spend(request=request, bucket=f"{kind}:{identity}", rate=rates.for_kind(kind, role=role))


def spend(*, request: HttpRequest, bucket: str, rate: Rate) -> RemainingQuota:
    """Count one request in a bucket. The first refusal of a window is recorded in the audit trail."""
    if not rate.count:
        return UNLIMITED
    for _ in range(TRIES):
        usage = get_usage(
            request, group="fleet", key=lambda group, request: bucket, rate=(rate.count, rate.seconds), increment=True
        )
        if usage is None or not usage["limit"]:
            continue
        if usage["count"] == rate.count + 1:
            _record_refusal(bucket, rate)
        return RemainingQuota(
            limit=rate.count,
            remaining=max(0, rate.count - usage["count"]),
            reset_s=max(1, usage["time_left"]),
            refused=usage["should_limit"],
        )
    return UNLIMITED


def headers(quota: RemainingQuota) -> dict[str, str]:
    """The RateLimit headers (draft-ietf-httpapi-ratelimit-headers-07), and Retry-After (RFC 9110, 10.2.3) if refused.

    All times are in seconds.
    """
    if not quota.limit:
        return {}
    headers = {
        "RateLimit-Limit": str(quota.limit),
        "RateLimit-Remaining": str(quota.remaining),
        "RateLimit-Reset": str(quota.reset_s),
    }
    return {**headers, "Retry-After": str(quota.reset_s)} if quota.refused else headers


def _record_refusal(bucket: str, rate: Rate) -> None:
    """Log and audit the refusal. A failure to audit does not change the response."""
    log.warning("%s has sent more than %d requests in %d s", bucket, rate.count, rate.seconds)
    with suppress(DatabaseError):
        audit.record(
            kind="limit", outcome="denied", subject=bucket, data={"limit": rate.count, "seconds": rate.seconds}
        )
