"""Changes to users in the admin have the same effects and audit entries as the commands."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory

from fleet.access import operations, tokens
from fleet.access.models import Role, Session
from fleet.audit.models import Entry
from tests.support import api, web

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> User:
    user = operations.create_user(name="ann", role=Role.ADMIN, password=api.PASSWORD)
    tokens.begin(user=user)
    return user


def save(user: User, **changes: Any) -> int:
    form = {
        "username": user.username, "is_active": "on", "is_staff": "on", "is_superuser": "on",
        "date_joined_0": "2026-01-31", "date_joined_1": "12:00:00", **changes,
    }  # fmt: skip
    sent_fields = {name: value for name, value in form.items() if value}
    return web.superuser().post(f"/admin/auth/user/{user.pk}/change/", sent_fields).status_code


def last_entry(kind: str = "role.changed") -> dict[str, Any]:
    entries = Entry.objects.filter(kind=kind).values("actor", "subject", "before", "after")
    return dict(entries.order_by("-id")[0])


def test_removing_superuser_status_removes_the_admin_role_and_is_recorded(ann: User) -> None:
    team = Group.objects.create(name="web")
    assert save(ann, is_superuser="", is_staff="", groups=[team.pk]) == 302
    assert operations.serialize_user(User.objects.get(pk=ann.pk))["role"] == Role.USER
    assert last_entry() == {
        "actor": "user:boss", "subject": "user:ann",
        "before": {"role": "admin", "can_execute": True, "teams": []},
        "after": {"role": "user", "can_execute": False, "teams": ["web"]},
    }  # fmt: skip


def test_deactivating_a_user_ends_their_sessions(ann: User) -> None:
    assert save(ann, is_active="") == 302
    assert (last_entry()["before"]["active"], last_entry()["after"]["active"]) == (True, False)
    assert not Session.objects.filter(user=ann, ended_at=None).exists()


def test_a_new_password_ends_the_sessions_of_the_old_one(ann: User) -> None:
    page, browser = f"/admin/auth/user/{ann.pk}/password/", web.superuser()
    browser.post(page, {"password1": "one of these", "password2": "and another", "usable_password": "true"})
    assert Session.objects.filter(user=ann, ended_at=None).exists()
    new = "a new one, long enough"
    assert browser.post(page, {"password1": new, "password2": new, "usable_password": "true"}).status_code == 302
    assert not Session.objects.filter(user=ann, ended_at=None).exists()


def test_changes_of_a_team_are_recorded_with_before_and_after(ann: User) -> None:
    boss = web.superuser()
    view, change = (
        Permission.objects.get(codename=f"{action}_mission", content_type__app_label="missions")
        for action in ("view", "change")
    )
    assert boss.post("/admin/auth/group/add/", {"name": "web", "permissions": [view.pk]}).status_code == 302
    created = {"name": "web", "permissions": ["missions.view_mission"], "members": []}
    assert last_entry("team.created") == {"actor": "user:boss", "subject": "web", "before": None, "after": created}

    team = Group.objects.get()
    ann.groups.add(team)
    page = f"/admin/auth/group/{team.pk}/"
    assert boss.post(f"{page}change/", {"name": "site", "permissions": [view.pk, change.pk]}).status_code == 302
    assert last_entry("team.changed") == {
        "actor": "user:boss", "subject": "site",
        "before": {"name": "web", "permissions": ["missions.view_mission"]},
        "after": {"name": "site", "permissions": ["missions.change_mission", "missions.view_mission"]},
    }  # fmt: skip

    assert boss.post(f"{page}delete/", {"post": "yes"}).status_code == 302
    before = {"name": "site", "permissions": ["missions.change_mission", "missions.view_mission"], "members": ["ann"]}
    assert last_entry("team.deleted") == {"actor": "user:boss", "subject": "site", "before": before, "after": None}


def test_joining_and_leaving_a_team_is_recorded(ann: User) -> None:
    team = Group.objects.create(name="web")
    browser = web.superuser()
    for teams, before, after in (([team.pk], [], ["web"]), ([], ["web"], [])):
        form = {"username": "ann", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
        moment = {"date_joined_0": "2026-01-31", "date_joined_1": "12:00:00"}
        page = f"/admin/auth/user/{ann.pk}/change/"
        assert browser.post(page, {**form, **moment, "groups": teams}).status_code == 302
        for kind in ("role.changed", "user.changed"):
            assert (last_entry(kind)["before"], last_entry(kind)["after"]) == ({"teams": before}, {"teams": after})


def test_no_password_is_recorded(ann: User) -> None:
    ann.refresh_from_db()
    browser = web.superuser()
    new = "a new one, long enough"
    page = f"/admin/auth/user/{ann.pk}"
    browser.post(f"{page}/password/", {"password1": new, "password2": new, "usable_password": "true"})
    assert last_entry("user.changed") == {"actor": "user:boss", "subject": "user:ann", "before": None, "after": None}
    assert browser.post(f"{page}/delete/", {"post": "yes"}).status_code == 302
    before = last_entry("user.deleted")["before"]
    assert before == {
        "name": "ann", "first_name": "", "last_name": "", "email": "",
        "role": "admin", "active": True, "can_execute": True, "teams": [],
    }  # fmt: skip


def test_one_of_two_admins_who_delete_each_other_is_refused(ann: User) -> None:
    browser = web.superuser()
    both = {"action": "delete_selected", "_selected_action": [str(ann.pk)]}
    assert "Are you sure" in browser.post("/admin/auth/user/", both).content.decode()
    people, request = admin.site.get_model_admin(User), RequestFactory().post("/")
    with pytest.raises(PermissionDenied, match="No admin would be left"):
        people.delete_queryset(request, User.objects.filter(is_superuser=True))
    assert User.objects.filter(is_superuser=True).count() == 2


def test_the_role_of_a_new_user_is_recorded_once() -> None:
    operations.create_user(name="eve", role=Role.AGENT)
    entries = Entry.objects.filter(subject="user:eve").values_list("kind", "after")
    assert list(entries) == [("user.created", {"role": "agent", "teams": []})]


def test_a_user_is_added_with_the_fields_of_the_page_and_needs_a_name() -> None:
    browser, page = web.superuser(), "/admin/auth/user/add/"
    document = browser.get(page).content.decode()
    assert [name for name in ("username", "password1", "password2") if f'name="{name}"' not in document] == []
    new = {"usable_password": "true", "password1": api.PASSWORD, "password2": api.PASSWORD}
    assert browser.post(page, {**new, "username": ""}).status_code == 200
    assert browser.post(page, {**new, "username": "dora"}).status_code == 302
    assert browser.post(page, {**new, "username": "dora"}).status_code == 200
    assert operations.serialize_user(User.objects.get(username="dora"))["role"] == Role.USER
    assert sorted(User.objects.values_list("username", flat=True)) == ["boss", "dora"]
