"""Requests of a signed-in browser are counted by user; those of strangers and access tokens by address."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from django.test import Client, override_settings

from fleet.access.models import Role
from fleet.limits.rates import Rate, parse_overrides
from tests.support import api

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def hours() -> Iterator[int]:
    """A new window for each test, because addresses and ids of users repeat."""
    hours = random.randrange(100, 9_000)
    with override_settings(FLEET_LIMIT_IP=Rate(2, hours * 3_600), FLEET_LIMIT_SESSION=Rate(5, hours * 3_600)):
        yield hours


def statuses(client: Client, times: int, path: str = "/api/v1/me") -> list[int]:
    return [client.get(path).status_code for _ in range(times)]


def signed_in(user: api.Client) -> Client:
    client = Client()
    client.force_login(user.user)
    return client


def test_requests_of_a_signed_in_browser_are_not_counted_by_address() -> None:
    admin = api.person("ann", Role.ADMIN)
    browser = signed_in(admin)
    assert statuses(browser, 4) == [200] * 4
    assert [admin.get("me").status_code for _ in range(3)] == [200, 200, 429]  # its token is counted by address
    assert statuses(Client(), 1) == [429]
    assert statuses(browser, 2) == [200, 429]


def test_signing_in_again_does_not_reset_the_limit() -> None:
    ann, ben = api.person("ann"), api.person("ben")
    assert statuses(signed_in(ann), 5) == [200] * 5
    assert statuses(signed_in(ann), 1) == [429]
    assert statuses(signed_in(ben), 5) == [200] * 5


def test_a_signed_in_browser_can_read_the_documents_when_its_address_is_exhausted() -> None:
    browser = signed_in(api.person("ann"))
    assert statuses(Client(), 3, "/api/v1/docs") == [200, 200, 429]
    assert statuses(browser, 1, "/api/v1/docs") == [200]


def test_the_rate_of_a_role_applies_to_browsers_too(hours: int) -> None:
    with override_settings(FLEET_LIMITS=parse_overrides(f"role:admin=1/{hours}h")):
        assert statuses(signed_in(api.person("ann", Role.ADMIN)), 2) == [200, 429]
