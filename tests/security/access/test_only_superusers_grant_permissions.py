"""Staff who may change users cannot grant permissions or take over accounts with more permissions than their own."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from fleet.access import operations
from tests.support import api, web

pytestmark = pytest.mark.django_db

NEW = "an even longer one for this"  # pragma: allowlist secret


@pytest.fixture
def clerk() -> Client:
    rights = ("view_user", "change_user", "add_user", "delete_user", "view_group", "change_group", "add_group")
    return web.staff(*rights)


def form(user: User, **more: Any) -> dict[str, Any]:
    return {
        "username": user.username, "first_name": "", "last_name": "", "email": "", "is_active": "on",
        "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", **more,
    }  # fmt: skip


def test_staff_cannot_make_themselves_superusers(clerk: Client) -> None:
    me = User.objects.get(username="clerk")
    permissions = [str(permission.pk) for permission in Permission.objects.all()]
    team = Group.objects.create(name="ops")
    value = form(me, is_superuser="on", is_staff="on", user_permissions=permissions, groups=[str(team.pk)])
    clerk.post(f"/admin/auth/user/{me.pk}/change/", value)
    me = User.objects.get(pk=me.pk)
    assert (me.is_superuser, me.user_permissions.count(), me.groups.count()) == (False, 7, 0)


def test_staff_cannot_make_others_superusers_but_can_change_other_fields(clerk: Client) -> None:
    ann = api.person("ann").user
    value = form(ann, first_name="Ann", is_superuser="on", is_staff="on")
    response = clerk.post(f"/admin/auth/user/{ann.pk}/change/", value)
    assert response.status_code == 302, response.content
    ann.refresh_from_db()
    assert (ann.first_name, ann.is_superuser, ann.is_staff) == ("Ann", False, False)


@pytest.mark.parametrize("role", ["superuser", "staff", "can_execute"])
def test_staff_cannot_take_over_an_account_with_more_permissions(clerk: Client, role: str) -> None:
    other = User.objects.create_user(
        "other", password=web.PASSWORD, is_staff=role == "staff", is_superuser=role == "superuser"
    )
    if role == "can_execute":
        operations.set_execute(user=other, allowed=True)
    values = {"password1": NEW, "password2": NEW, "usable_password": "true"}  # pragma: allowlist secret
    assert clerk.post(f"/admin/auth/user/{other.pk}/password/", values).status_code == 403
    assert clerk.post(f"/admin/auth/user/{other.pk}/change/", form(other, email="me@example.org")).status_code == 403
    assert clerk.post(f"/admin/auth/user/{other.pk}/delete/", {"post": "yes"}).status_code == 403
    clerk.post("/admin/auth/user/", {"action": "delete_selected", "_selected_action": [str(other.pk)], "post": "yes"})
    other.refresh_from_db()
    assert other.check_password(web.PASSWORD)
    assert other.email == ""


def test_staff_cannot_grant_permissions_to_a_team(clerk: Client) -> None:
    team = Group.objects.create(name="ops")
    item = Permission.objects.get(codename="plan_execute")
    response = clerk.post(f"/admin/auth/group/{team.pk}/change/", {"name": "ops", "permissions": [str(item.pk)]})
    assert (response.status_code, team.permissions.count()) == (403, 0)
    assert clerk.post("/admin/auth/group/add/", {"name": "more"}).status_code == 403


def test_a_superuser_can_do_all_of_that() -> None:
    boss, ann = web.superuser(), api.person("ann").user
    assert boss.post(f"/admin/auth/user/{ann.pk}/change/", form(ann, is_staff="on")).status_code == 302
    ann.refresh_from_db()
    assert ann.is_staff
