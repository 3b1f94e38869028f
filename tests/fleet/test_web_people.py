"""People in the admin: what is done to them there has the effects, and leaves the entries, that the commands' doing has."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User

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
    sent = {name: value for name, value in form.items() if value}
    return web.superuser().post(f"/admin/auth/user/{user.pk}/change/", sent).status_code


def told() -> dict[str, Any]:
    return Entry.objects.filter(kind="role.changed").values("actor", "subject", "before", "after").order_by("-id")[0]


def test_who_is_no_superuser_any_more_is_no_admin_and_that_is_written_down(ann: User) -> None:
    team = Group.objects.create(name="web")
    assert save(ann, is_superuser="", is_staff="", groups=[team.pk]) == 302
    assert operations.described(User.objects.get(pk=ann.pk))["role"] == Role.USER
    assert told() == {
        "actor": "user:boss", "subject": "user:ann",
        "before": {"role": "admin", "executes": True, "teams": []}, "after": {"role": "user", "executes": False, "teams": ["web"]},
    }  # fmt: skip


def test_who_is_let_in_no_more_has_no_session_any_more(ann: User) -> None:
    assert save(ann, is_active="") == 302
    assert (told()["before"]["active"], told()["after"]["active"]) == (True, False)
    assert not Session.objects.filter(user=ann, ended_at=None).exists()


def test_a_new_password_ends_the_sessions_of_the_old_one(ann: User) -> None:
    page, browser = f"/admin/auth/user/{ann.pk}/password/", web.superuser()
    browser.post(page, {"password1": "one of these", "password2": "and another", "usable_password": "true"})
    assert Session.objects.filter(user=ann, ended_at=None).exists()
    new = "a new one, long enough"
    assert browser.post(page, {"password1": new, "password2": new, "usable_password": "true"}).status_code == 302
    assert not Session.objects.filter(user=ann, ended_at=None).exists()
