"""Pages of other sites cannot change anything through a signed-in browser: links have no effect, forms need a token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from fleet.admin.pages import BUTTON
from missions.models import Mission
from tests.support import fleet, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def buttons(page: str) -> Iterator[str]:
    """The URLs of the buttons on the pages of rows."""
    model_admin = next(item for model, item in admin.site._registry.items() if model._meta.label_lower == page)
    for name in getattr(model_admin, "actions_detail", ()):
        yield f"{model_admin.opts.app_label}_{model_admin.opts.model_name}_{name}"


@pytest.mark.parametrize("page", ["missions.mission", "missions.sortie", "fleet.key", "fleet.session", "agents.node"])
def test_buttons_of_the_admin_are_not_links(page: str) -> None:
    mission = fleet.launch({"one": {}})
    web.superuser()
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.get(username="boss"))
    names = list(buttons(page))
    assert names
    assert all(name.endswith(BUTTON) for name in names)
    for name in names:
        url = reverse(f"admin:{name}", args=[mission.id])
        assert browser.get(url).status_code in (200, 302, 403, 404)
        assert browser.post(url, {"_form_submitted": "1", "confirmed": "1"}).status_code == 403
    mission.refresh_from_db()
    assert mission.state == "running"


def test_no_list_action_runs_without_the_token() -> None:
    mission = fleet.launch({"one": {}})
    web.superuser()
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.get(username="boss"))
    url = reverse("admin:missions_mission_changelist")
    fields = {"action": "cancel", "_selected_action": str(mission.id), "confirmed": "1"}
    browser.get(url, fields)
    assert browser.post(url, fields).status_code == 403
    assert Mission.objects.get(id=mission.id).state == "running"


@pytest.mark.parametrize("method", ["get", "head", "options", "put"])
def test_safe_and_unknown_methods_of_the_api_change_nothing(method: str) -> None:
    mission = fleet.launch({"one": {}})
    boss = web.superuser()
    for action in ("cancel", "pause", "retry"):
        assert getattr(boss, method)(f"/api/v1/missions/{mission.ref}/{action}").status_code == 405
    assert Mission.objects.get(id=mission.id).state == "running"
