"""Changing a password ends the user's sessions everywhere, and the audit trail records who did it."""

from __future__ import annotations

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.contrib.postgres.functions import TransactionNow  # the start of the test, which is one transaction
from django.core.management import call_command
from django.test import Client, RequestFactory, override_settings

from fleet.access import operations, tokens
from fleet.access.models import Role
from fleet.audit.models import Entry
from tests.support import api, web

pytestmark = pytest.mark.django_db

NEW = "an even longer one for this"  # pragma: allowlist secret


def recorded_changes() -> list[tuple[str, str]]:
    return list(
        Entry.objects.filter(at__gte=TransactionNow(), kind="user.password_changed").values_list("actor", "subject")
    )


def test_changing_your_own_password_on_the_admin_site_ends_other_sessions() -> None:
    boss = web.superuser()
    user = User.objects.get(username="boss")
    tokened = api.Client(tokens.begin(user=user).access)
    other, key = Client(), api.machine(user, "read")
    other.force_login(user)
    values = {"old_password": web.PASSWORD, "new_password1": NEW, "new_password2": NEW}
    response = boss.post("/admin/password_change/", {**values, "old_password": "no"})
    assert (response.status_code, tokened.get("me").status_code, recorded_changes()) == (200, 200, [])
    assert boss.post("/admin/password_change/", values).status_code == 302
    assert tokened.get("me").status_code == 401
    assert recorded_changes() == [("user:boss", "user:boss")]
    assert boss.get("/admin/").status_code == 200  # the session that changed it stays signed in
    assert other.get("/admin/").status_code == 302
    assert key.get("me").status_code == 200  # keys of programs stay valid; they are revoked separately


def test_an_admin_who_changes_another_users_password_ends_their_sessions() -> None:
    ann = api.person("ann")
    boss = web.superuser()
    values = {"password1": NEW, "password2": NEW, "usable_password": "true"}  # pragma: allowlist secret
    assert boss.post(f"/admin/auth/user/{ann.user.pk}/password/", values).status_code == 302
    assert ann.get("me").status_code == 401
    assert recorded_changes() == [("user:boss", "user:ann")]


def test_changing_a_password_by_command_ends_sessions() -> None:
    ann = api.person("ann", Role.USER)
    operations.set_password(user=ann.user, password=NEW)
    assert ann.get("me").status_code == 401
    assert [subject for _, subject in recorded_changes()] == ["user:ann"]


def test_djangos_changepassword_command_ends_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    ann = api.person("ann", Role.USER)
    monkeypatch.setattr("getpass.getpass", lambda prompt: NEW)
    call_command("changepassword", "ann", verbosity=0)
    assert ann.get("me").status_code == 401
    assert [subject for _, subject in recorded_changes()] == ["user:ann"]


def test_removing_a_password_ends_sessions() -> None:
    ann = api.person("ann")
    boss = web.superuser()
    values = {"usable_password": "false", "unset-password": ""}
    assert boss.post(f"/admin/auth/user/{ann.user.pk}/password/", values).status_code == 302
    assert ann.get("me").status_code == 401
    assert recorded_changes() == [("user:boss", "user:ann")]


def test_rehashing_the_same_password_ends_no_session() -> None:
    ann = api.person("ann")
    hashers = [f"django.contrib.auth.hashers.{name}PasswordHasher" for name in ("PBKDF2SHA1", "PBKDF2", "MD5")]
    with override_settings(PASSWORD_HASHERS=hashers):
        assert authenticate(RequestFactory().get("/"), username="ann", password=api.PASSWORD) == ann.user
    ann.user.refresh_from_db()
    assert ann.user.password.startswith("pbkdf2_sha1$")
    ann.user.save()
    assert ann.get("me").status_code == 200
    assert recorded_changes() == []
