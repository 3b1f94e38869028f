"""How operators write rates, and to whom each applies."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from fleet.config.env import Environment
from fleet.limits import rates
from fleet.limits.rates import Rate, RequestKind


@pytest.mark.parametrize(
    "text, rate",
    [
        ("100/m", Rate(100, 60)),
        ("30/10s", Rate(30, 10)),
        ("5/2h", Rate(5, 7200)),
        (" 1/d ", Rate(1, 86_400)),
        ("off", rates.OFF),
    ],
)
def test_a_rate_is_a_number_and_a_period(text: str, rate: Rate) -> None:
    assert rates.parse(text) == rate


@pytest.mark.parametrize("text", ["", "100", "0/m", "-1/m", "100/0s", "100/w", "a/m", "100/m/s", "１/m"])
def test_an_invalid_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        rates.parse(text)


def test_the_refusal_names_the_variable() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^FLEET_LIMIT_IP: '100/w' is not a rate"):
        Environment({"FLEET_LIMIT_IP": "100/w"}).parsed("FLEET_LIMIT_IP", "1/m", rates.parse)
    with pytest.raises(ImproperlyConfigured, match="must start with"):
        Environment({"FLEET_LIMITS": "admin=1/m"}).parsed("FLEET_LIMITS", "", rates.parse_overrides)


def test_a_role_and_a_route_can_have_their_own_rates() -> None:
    own = rates.parse_overrides("role:admin=300/m, route:missions.create=30/m")
    with override_settings(FLEET_LIMITS=own, FLEET_LIMIT_IP=Rate(100), FLEET_LIMIT_KEY=Rate(600)):
        assert rates.for_kind(RequestKind.IP) == rates.for_kind(RequestKind.IP, role="user") == Rate(100)
        assert rates.for_kind(RequestKind.IP, role="admin") == Rate(300)
        assert rates.for_kind(RequestKind.KEY, role="admin") == Rate(600)
        assert rates.for_route("missions.create") == Rate(30)
        assert rates.for_route("missions.list") is None
