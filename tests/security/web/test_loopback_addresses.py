"""A process of this host can connect from any address in 127.0.0.0/8. All of them count as one client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.test import Client, override_settings

from fleet.limits import addresses
from fleet.limits.rates import OFF, Rate
from tests.support import api

pytestmark = pytest.mark.django_db

GUESS = {"username": "ann", "password": "a guess"}


@pytest.fixture(autouse=True)
def counted_anew() -> Iterator[None]:
    cache.clear()
    api.person("ann")
    yield
    cache.clear()


def guesses(number: int) -> list[int]:
    """The statuses of guesses, each from another address of the loopback."""
    return [
        Client(REMOTE_ADDR=f"127.0.{n}.{n + 2}")
        .post("/api/v1/auth/token", GUESS, content_type="application/json")
        .status_code
        for n in range(number)
    ]


def test_other_loopback_addresses_do_not_evade_the_rate_of_sign_ins() -> None:
    with override_settings(FLEET_LIMIT_AUTH=Rate(3, 3_600)):
        assert guesses(5) == [401, 401, 401, 429, 429]


def test_other_loopback_addresses_do_not_evade_a_lockout() -> None:
    with override_settings(FLEET_LIMIT_AUTH=OFF, FLEET_LOCKOUT_FAILURES=3, AXES_FAILURE_LIMIT=3):
        assert guesses(5)[3:] == [429, 429]


@pytest.mark.parametrize("address", ["127.0.0.2", "127.255.0.1", "::1", "::ffff:127.0.0.9"])
def test_loopback_addresses_have_one_bucket(address: str) -> None:
    assert addresses.bucket(address) == addresses.bucket("127.0.0.1")
