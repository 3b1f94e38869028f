"""Staff see only the admin pages for which they have permissions, and can infer nothing that these do not show."""

from __future__ import annotations

import pytest
from django.urls import reverse

from missions.models import Template
from tests.support import web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

SECRET = "hunter2-hunter2"  # pragma: allowlist secret
PLAN = f"""
mission: secretive
sorties:
  one: {{agent: backend, run: "true", env: {{TOKEN: {{value: {SECRET}, secret: true}}}}}}
"""


@pytest.mark.parametrize(
    ("page", "permission", "field"),
    [
        ("missions_mission", "view_mission", "plan"),
        ("missions_mission", "view_mission", "defaults"),
        ("missions_attempt", "view_attempt", "token"),
        ("missions_template", "view_template", "text"),
        ("fleet_key", "view_key", "digest"),
        ("fleet_session", "view_session", "refresh"),
        ("auth_user", "view_user", "password"),
        ("fleet_key", "view_key", "user__password"),
        ("missions_workspace", "view_workspace", "mission__plan"),
    ],
)
def test_lists_cannot_be_filtered_by_fields_that_no_page_shows(page: str, permission: str, field: str) -> None:
    """A filter that tells whether a value begins with a letter discloses the whole value."""
    clerk, url = web.staff(permission), reverse(f"admin:{page}_changelist")
    assert clerk.get(url).status_code == 200
    for lookup in (field, f"{field}__contains", f"{field}__startswith", f"{field}__regex"):
        assert clerk.get(url, {lookup: "a"}).status_code == 400, lookup


@pytest.mark.parametrize(
    ("page", "filter", "value"),
    [
        ("missions_mission", "state__exact", "a\0"),
        ("missions_mission", "created_at__year", "99999999999"),
        ("fleet_entry", "outcome__exact", "\0"),
        ("auth_user", "is_staff__exact", "x"),
    ],
)
def test_a_filter_with_an_impossible_value_is_refused(page: str, filter: str, value: str) -> None:
    response = web.superuser().get(reverse(f"admin:{page}_changelist"), {filter: value})
    assert (response.status_code, response.headers.get("Location", "").endswith("?e=1")) == (302, True)


def test_patterns_with_which_one_filter_takes_seconds_are_refused() -> None:
    page, boss = reverse("admin:missions_mission_changelist"), web.superuser()
    assert [boss.get(page, {f"state__{name}": "(a|b)*c"}).status_code for name in ("regex", "iregex")] == [400, 400]


def test_filters_that_pages_offer_and_links_of_other_pages_work() -> None:
    mission, boss = web.ended_mission(), web.superuser()
    for page, filters in (
        ("missions_sortie", {"mission__id__exact": str(mission.id), "state__exact": "failed"}),
        ("missions_sortie", {"agent_type__name__exact": "backend", "started_at__gte": "2026-01-01"}),
        ("missions_mission", {"state__exact": "failed", "q": "x"}),
        ("missions_workspace", {"mission__state__exact": "failed"}),
        ("agents_node", {"up__exact": "1", "cordoned__exact": "1"}),
        ("agents_agent", {"type__name__exact": "backend"}),
        ("auth_user", {"is_staff__exact": "1"}),
        ("fleet_event", {"about": "mission"}),
        ("fleet_key", {"revoked_at__isnull": "True"}),
    ):
        assert boss.get(reverse(f"admin:{page}_changelist"), filters).status_code == 200, page


@pytest.mark.parametrize(
    ("permissions", "visible"),
    [
        (["view_template"], False),
        (["view_template", "change_template"], False),
        (["view_template", "change_template", "plan_execute"], True),
    ],
)
def test_only_staff_who_may_edit_a_template_see_its_secrets(permissions: list[str], visible: bool) -> None:
    template = Template.objects.create(name="secretive", text=PLAN)
    page = web.staff(*permissions).get(reverse("admin:missions_template_change", args=[template.pk]))
    assert page.status_code == 200
    assert "secretive" in page.content.decode()
    assert (SECRET in page.content.decode()) is visible
