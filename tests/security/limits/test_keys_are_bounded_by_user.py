"""Limits per user bound the creation, use and revocation of machine keys, and what the audit trail records of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.postgres.functions import TransactionNow  # the start of the test, which is one transaction
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from fleet.access import operations
from fleet.access.models import Key, Role
from fleet.access.rules import Scope
from fleet.audit.models import Entry
from fleet.limits.rates import Rate
from missions.operations import external_agents
from tests.support import api, fleet

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def counted_anew() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def test_the_number_of_keys_that_a_user_creates_per_hour_is_limited(settings: Settings) -> None:
    settings.FLEET_LIMIT_NEW_KEY = Rate(3, 3_600)
    ann = api.person("ann")
    before = Entry.objects.count()
    statuses = []
    for _ in range(10):
        response = ann.post("keys", {"name": "loop", "scopes": ["read"]})
        statuses.append(response.status_code)
        if response.status_code == 201:
            api.Client(response.json()["key"]).get("me")
            ann.delete(f"keys/{response.json()['id']}")
    assert statuses == [201] * 3 + [429] * 7
    assert (
        Entry.objects.count() - before == 3 * 3 + 1
    )  # one each for creation, use and revocation, and one for exceeding the limit


def test_all_keys_of_a_user_share_one_rate_limit(settings: Settings) -> None:
    settings.FLEET_LIMIT_USER = Rate(6, 3_600)
    ann, bob = api.person("ann"), api.person("bob")
    statuses = [api.machine(ann.user, Scope.READ).get("me").status_code for _ in range(8)]
    assert statuses == [200] * 6 + [429] * 2
    assert api.machine(bob.user, Scope.READ).get("me").status_code == 200


def test_the_audit_trail_records_a_limited_number_of_refusals_per_user(settings: Settings) -> None:
    settings.FLEET_LIMIT_DENIED = Rate(3, 3_600)
    ann = api.person("ann")
    for _ in range(10):
        assert ann.get("audit").status_code == 403
    assert Entry.objects.filter(at__gte=TransactionNow(), kind="denied").count() == 3
    assert Entry.objects.filter(at__gte=TransactionNow(), kind="limit", subject=f"denied:{ann.user.pk}").count() == 1


def test_the_audit_trail_records_a_limited_number_of_denials_without_a_user(settings: Settings) -> None:
    """The work of an attempt has only a lease, and a browser without a CSRF token counts as anonymous."""
    settings.FLEET_LIMIT_DENIED = Rate(3, 3_600)
    settings.FLEET_LIMIT_IP = Rate(15, 3_600)
    fleet.launch({"one": {}})
    fleet.open_to_external_agents()
    agent = external_agents.register(agent_type="backend", by=api.person("exo", Role.AGENT).user)
    (lease,) = external_agents.claim(agent=agent.id)
    for _ in range(10):
        assert api.Client(lease.token).get("audit").status_code == 403
    assert Entry.objects.filter(at__gte=TransactionNow(), kind="denied").count() == 3
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(api.person("ann").user)
    statuses = [browser.post("/api/v1/missions", {}, content_type="application/json").status_code for _ in range(20)]
    assert statuses == [403] * 15 + [429] * 5
    assert Entry.objects.filter(at__gte=TransactionNow(), kind="denied").count() == 3


def test_the_audit_trail_records_a_limited_number_of_invalid_tokens(settings: Settings) -> None:
    settings.FLEET_LIMIT_DENIED = Rate(3, 3_600)
    for _ in range(5):
        assert api.Client("no.valid.token").get("me").status_code == 401
        assert api.anonymous().post("auth/refresh", {"refresh": "no.valid.token"}).status_code == 401
    assert Entry.objects.filter(at__gte=TransactionNow(), kind="token").count() == 3
    assert Entry.objects.filter(at__gte=TransactionNow(), kind="limit").count() == 1


def test_revoking_a_key_revokes_the_keys_that_it_created() -> None:
    ann = api.person("ann")
    first = api.machine(ann.user, Scope.MANAGE, Scope.READ)
    second = api.Client(first.post("keys", {"name": "b", "scopes": ["manage", "read"]}).json()["key"])
    third = api.Client(second.post("keys", {"name": "c", "scopes": ["read"]}).json()["key"])
    own = api.machine(ann.user, Scope.READ)
    assert third.get("me").status_code == 200
    operations.revoke_key(key=Key.objects.get(prefix=first.bearer[:12]))
    assert [item.get("me").status_code for item in (first, second, third, own)] == [401, 401, 401, 200]
    assert Entry.objects.filter(at__gte=TransactionNow(), kind="key.revoked").count() == 3
