"""A session does not outlive what ends it: a new password, a sign-out, or a user who is disabled."""

from __future__ import annotations

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import RequestFactory

from fleet.access import operations, tokens
from fleet.access.models import Session
from tests.support import api, web

pytestmark = pytest.mark.django_db

NEW = "an even longer one for this"  # pragma: allowlist secret


def verified(name: str) -> User:
    """The user as a sign-in has it whose password was just checked."""
    user = authenticate(RequestFactory().get("/"), username=name, password=api.PASSWORD)
    assert isinstance(user, User)
    return user


def test_a_sign_in_during_a_change_of_the_password_gets_no_session() -> None:
    ann = api.person("ann")
    user = verified("ann")
    operations.set_password(user=ann.user, password=NEW)
    with pytest.raises(tokens.NotSignedIn):
        tokens.begin(user=user)
    assert not Session.objects.filter(user=ann.user, ended_at=None).exists()


def test_a_sign_in_while_the_user_is_disabled_gets_no_session_that_works_later() -> None:
    ann = api.person("ann")
    user = verified("ann")
    operations.set_active(user=ann.user, active=False)
    with pytest.raises(tokens.NotSignedIn):
        tokens.begin(user=user)
    operations.set_active(user=ann.user, active=True)
    assert not Session.objects.filter(user=ann.user, ended_at=None).exists()


def test_a_sign_out_by_command_ends_the_sessions_of_that_users_browsers() -> None:
    boss, clerk = web.superuser(), web.staff()
    call_command("fleet_user", "sign-out", "boss")
    assert boss.get("/admin/").status_code == 302
    assert clerk.get("/admin/").status_code == 200


def test_a_sign_out_everywhere_over_the_api_ends_the_sessions_of_browsers() -> None:
    boss = web.superuser()
    tokened = api.Client(tokens.begin(user=User.objects.get(username="boss")).access)
    assert tokened.post("auth/logout", {"everywhere": True}).status_code == 204
    assert boss.get("/admin/").status_code == 302


def test_enabling_a_user_again_revives_no_session_of_a_browser() -> None:
    boss = web.superuser()
    User.objects.create_superuser("other")  # the last admin cannot be disabled
    user = User.objects.get(username="boss")
    operations.set_active(user=user, active=False)
    operations.set_active(user=user, active=True)
    assert boss.get("/admin/").status_code == 302
