"""Whoever probes the admin's pages for a way to more rights leaves entries in the audit trail, but cannot flood it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.contrib.postgres.functions import TransactionNow  # the start of the test, which is one transaction
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from fleet.audit.models import Entry
from fleet.limits.rates import Rate
from missions import operations
from tests.support import api, fleet, web

pytestmark = pytest.mark.django_db


def denials() -> list[tuple[str, str]]:
    """The actor and the subject of each refusal, in order."""
    rows = Entry.objects.filter(at__gte=TransactionNow(), kind="denied").order_by("id")
    return list(rows.values_list("actor", "subject"))


def test_pages_that_staff_may_not_use_are_recorded() -> None:
    clerk, boss = web.staff("view_user", "change_user", "delete_user"), User.objects.create_superuser("boss")
    for name in ("auth_user_password_change", "auth_user_delete"):
        page = reverse(f"admin:{name}", args=[boss.pk])
        assert clerk.get(page).status_code == clerk.post(page, {"post": "yes"}).status_code == 403
        assert denials()[-2:] == [("user:clerk", page)] * 2


def test_a_forged_form_is_recorded() -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.create_superuser("boss"))
    page = reverse("admin:missions_template_add")
    assert browser.post(page, {"name": "x"}).status_code == 403
    assert denials() == [("user:boss", page)]


def test_refused_actions_name_the_row_by_its_id_and_are_bounded(settings: Settings) -> None:
    settings.FLEET_LIMIT_DENIED = Rate(3, 3_600)
    clerk = web.staff("view_mission", "change_mission")
    missions = [fleet.launch({"one": {}}) for _ in range(5)]
    for mission in missions:
        operations.pause(mission=mission.id, reason="")
    assert "plan.execute" in web.run_action(clerk, "resume", *missions)
    assert len(denials()) == 3
    assert {subject for _, subject in denials()} <= {mission.ref for mission in missions}
    assert Entry.objects.filter(at__gte=TransactionNow(), kind="limit").count() == 1


def test_staff_cannot_change_when_a_user_signed_in_or_joined() -> None:
    ann = api.person("ann").user
    page = web.staff("view_user", "change_user").get(reverse("admin:auth_user_change", args=[ann.pk]))
    fields = page.context["adminform"].form.fields
    assert not {"last_login", "date_joined"} & set(fields)
    assert "username" in fields
