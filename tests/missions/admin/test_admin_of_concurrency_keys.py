"""Operators see how many sorties hold a concurrency key, and change its limit."""

from __future__ import annotations

import pytest
from django.urls import reverse

from fleet.audit.models import Entry
from missions.control import admission
from missions.models import ConcurrencyKey, Sortie
from missions.operations import external_agents
from tests.support import fleet, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

DEPLOY = {"concurrency": {"key": "deploy", "limit": 1}}


def page(key: str) -> str:
    return reverse("admin:missions_concurrencykey_change", args=[key])


def queued() -> int:
    return Sortie.objects.filter(state="queued").count()


@pytest.fixture(autouse=True)
def waiting() -> None:
    """Three sorties share a key, and one of them has its only place."""
    external_agents.register(agent_type="backend", concurrency=9)
    fleet.launch(dict.fromkeys(("a", "b", "c"), DEPLOY))
    admission.admit()
    assert queued() == 1


def test_the_list_shows_the_places_in_use() -> None:
    listed = web.superuser().get(reverse("admin:missions_concurrencykey_changelist")).content.decode()
    assert "1 of 1" in listed


def test_a_higher_limit_admits_what_waits_and_is_audited() -> None:
    assert web.superuser().post(page("deploy"), {"limit": "2"}).status_code == 302
    admission.admit()
    assert queued() == 2
    entry = Entry.objects.filter(kind="concurrencykey.changed").latest("id")
    assert (entry.before, entry.after) == ({"limit": 1}, {"limit": 2})


def test_with_a_limit_of_zero_only_what_is_queued_may_start() -> None:
    assert web.superuser().post(page("deploy"), {"limit": "0"}).status_code == 302
    fleet.launch({"d": DEPLOY})
    admission.admit()
    assert queued() == 1, "which keeps its place"


def test_keys_are_not_added_or_deleted_by_hand() -> None:
    boss = web.superuser()
    assert boss.get(reverse("admin:missions_concurrencykey_add")).status_code == 403
    assert (
        boss.post(reverse("admin:missions_concurrencykey_delete", args=["deploy"]), {"post": "yes"}).status_code == 403
    )
    assert ConcurrencyKey.objects.filter(key="deploy").exists()
