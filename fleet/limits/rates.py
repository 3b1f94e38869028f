"""Rates such as `100/m`, `30/10s` and `off`, and which rate applies to which requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_RATE = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,3})?([smhd])")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` requests per window of `seconds`. A count of 0 means unlimited."""

    count: int
    seconds: int = 60


OFF = Rate(0)


class RequestKind(StrEnum):
    """Which requests are counted together."""

    IP = "ip"  # anonymous requests and those with access tokens, by address
    SESSION = "session"  # requests of a user's browsers that are signed in to the site
    AUTH = "auth"  # sign-ins, by address
    KEY = "key"  # requests with one machine key
    USER = "user"  # requests with any machine key or session of a user
    NEW_KEY = "new_key"  # machine keys that a user creates
    DENIED = "denied"  # audit entries about denied requests of a user
    AGENT = "agent"  # requests of one agent or attempt, so that others cannot use up its limit


def parse(text: str) -> Rate:
    """Parse a rate. Raises ValueError with a message for people."""
    if text.strip().lower() == "off":
        return OFF
    if (match := _RATE.fullmatch(text.strip())) is None:
        raise ValueError(f"{text!r} is not a rate; use one such as 100/m, 30/10s or off")
    count, times, unit = match.groups()
    return Rate(int(count), int(times or 1) * _UNITS[unit])


def parse_overrides(text: str) -> dict[str, Rate]:
    """Parse `role:admin=300/m route:missions.create=30/m`. Raises ValueError with a message for people."""
    overrides = {}
    for word in text.replace(",", " ").split():
        name, _, rate = word.partition("=")
        if not re.fullmatch(r"(role|route):[\w.-]+", name):
            raise ValueError(f"{word!r} must start with role:NAME= or route:NAME=")
        overrides[name] = parse(rate)
    return overrides


def for_kind(kind: RequestKind, *, role: str = "") -> Rate:
    """The rate for all routes together. The rate of a role replaces that of the kinds IP and SESSION."""
    if kind in {RequestKind.IP, RequestKind.SESSION} and (role_rate := _overrides().get(f"role:{role}")) is not None:
        return role_rate
    rates: Mapping[RequestKind, Rate] = {
        RequestKind.IP: settings.FLEET_LIMIT_IP,
        RequestKind.SESSION: settings.FLEET_LIMIT_SESSION,
        RequestKind.AUTH: settings.FLEET_LIMIT_AUTH,
        RequestKind.KEY: settings.FLEET_LIMIT_KEY,
        RequestKind.USER: settings.FLEET_LIMIT_USER,
        RequestKind.NEW_KEY: settings.FLEET_LIMIT_NEW_KEY,
        RequestKind.DENIED: settings.FLEET_LIMIT_DENIED,
        RequestKind.AGENT: settings.FLEET_LIMIT_AGENT,
    }
    return rates[kind]


def for_route(route: str) -> Rate | None:
    """The rate of one route, which is counted separately; None if it has none of its own."""
    return _overrides().get(f"route:{route}")


def _overrides() -> Mapping[str, Rate]:
    return settings.FLEET_LIMITS
