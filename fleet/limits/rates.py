"""How many requests in how long: `100/m`, `30/10s`, `off`; and which of them holds for whom."""

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
    """At most `count` in each window of `seconds`; a count of 0 is no limit."""

    count: int
    seconds: int = 60


OFF = Rate(0)


class Kind(StrEnum):
    """Whose requests are counted together."""

    IP = "ip"  # those of strangers, and of people who show access tokens: by address
    SESSION = "session"  # those of a user's browsers that are signed in to the site
    AUTH = "auth"  # sign-ins: by address
    KEY = "key"  # those of one machine key
    USER = "user"  # those of all machine keys of a user, and of all their sessions
    NEW_KEY = "new_key"  # machine keys that a user makes
    DENIED = "denied"  # what of a user's the table denies: the entries in the audit trail
    AGENT = "agent"  # those of one agent or attempt, so that its heartbeat is never refused because of its neighbours


def parse(text: str) -> Rate:
    """ValueError with a sentence where it is no rate."""
    if text.strip().lower() == "off":
        return OFF
    if (found := _RATE.fullmatch(text.strip())) is None:
        raise ValueError(f"{text!r} is not a rate; one looks like 100/m, 30/10s or off")
    count, times, unit = found.groups()
    return Rate(int(count), int(times or 1) * _UNITS[unit])


def parse_overrides(text: str) -> dict[str, Rate]:
    """`role:admin=300/m`, `route:missions.create=30/m`. ValueError with a sentence for anything else."""
    overrides = {}
    for word in text.replace(",", " ").split():
        name, _, rate = word.partition("=")
        if not re.fullmatch(r"(role|route):[\w.-]+", name):
            raise ValueError(f"{word!r} begins with neither role:NAME= nor route:NAME=")
        overrides[name] = parse(rate)
    return overrides


def of(kind: Kind, *, role: str = "") -> Rate:
    """What holds for all routes together. A role's own rate takes the place of that of people, by address or by session."""
    if kind in {Kind.IP, Kind.SESSION} and (own := _overrides().get(f"role:{role}")) is not None:
        return own
    rates: Mapping[Kind, Rate] = {
        Kind.IP: settings.FLEET_LIMIT_IP,
        Kind.SESSION: settings.FLEET_LIMIT_SESSION,
        Kind.AUTH: settings.FLEET_LIMIT_AUTH,
        Kind.KEY: settings.FLEET_LIMIT_KEY,
        Kind.USER: settings.FLEET_LIMIT_USER,
        Kind.NEW_KEY: settings.FLEET_LIMIT_NEW_KEY,
        Kind.DENIED: settings.FLEET_LIMIT_DENIED,
        Kind.AGENT: settings.FLEET_LIMIT_AGENT,
    }
    return rates[kind]


def of_route(route: str) -> Rate | None:
    """A route's own rate, which is counted apart; None where it has none."""
    return _overrides().get(f"route:{route}")


def _overrides() -> Mapping[str, Rate]:
    return settings.FLEET_LIMITS
