"""Counting requests, and refusing those above the rate.

The counting is django-ratelimit's, in fixed windows: each bucket's windows begin at a moment of its own, and a request is
counted by one atomic increment in Redis, so that exactly as many pass as may, however many processes serve them. Two windows
that touch may let twice the rate pass in a short time; that is the price of one number for each bucket.
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
from fleet.limits.rates import Kind, Rate

log = logging.getLogger("fleet.limits")

TIMES = 3  # that it is tried when Redis goes or comes between two of its questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a client stands after this request."""

    limit: int  # 0: there is none
    remaining: int
    reset_s: int  # until the window ends
    refused: bool = False


FREE = Standing(limit=0, remaining=0, reset_s=0)


class Refused(errors.RateLimited):
    """Too many requests; `standing` says until when."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(
            f"Too many requests: {standing.limit} are allowed until the count begins again.",
            hint=f"Try again in {humanise.duration(standing.reset_s)}.",
        )
        self.standing = standing


def charge(*, request: HttpRequest, kind: Kind, who: str = "", role: str = "", route: str = "") -> Standing:
    """Count one request where it belongs, at the rate that the settings say. `who` is a key's or an agent's id; for people
    it is their address. A route with a rate of its own is counted apart from the others."""
    who = who or addresses.bucket(addresses.client(request))
    if (own := rates.of_route(route)) is not None:
        return spend(request=request, bucket=f"{kind}:{who}:{route}", rate=own)
    return spend(request=request, bucket=f"{kind}:{who}", rate=rates.of(kind, role=role))


def spend(*, request: HttpRequest, bucket: str, rate: Rate) -> Standing:
    """Count one request in a bucket. The first one that is refused in a window is written into the audit trail."""
    if not rate.count:
        return FREE
    for _ in range(TIMES):
        usage = get_usage(
            request, group="fleet", key=lambda group, request: bucket, rate=(rate.count, rate.seconds), increment=True
        )
        if usage is None or not usage["limit"]:
            continue
        if usage["count"] == rate.count + 1:
            _note(bucket, rate)
        return Standing(
            limit=rate.count,
            remaining=max(0, rate.count - usage["count"]),
            reset_s=max(1, usage["time_left"]),
            refused=usage["should_limit"],
        )
    return FREE


def headers(standing: Standing) -> dict[str, str]:
    """As https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-07 has them, and Retry-After
    (RFC 9110, 10.2.3) where it was refused; all times in seconds."""
    if not standing.limit:
        return {}
    told = {
        "RateLimit-Limit": str(standing.limit),
        "RateLimit-Remaining": str(standing.remaining),
        "RateLimit-Reset": str(standing.reset_s),
    }
    return {**told, "Retry-After": str(standing.reset_s)} if standing.refused else told


def _note(bucket: str, rate: Rate) -> None:
    """That it cannot be written down is no reason to answer otherwise."""
    log.warning("%s has sent more than %d requests in %d s", bucket, rate.count, rate.seconds)
    with suppress(DatabaseError):
        audit.record(
            kind="limit", outcome="denied", subject=bucket, data={"limit": rate.count, "seconds": rate.seconds}
        )
