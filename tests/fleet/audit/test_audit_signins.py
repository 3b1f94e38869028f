"""Every sign-in, successful or not, is recorded in the audit trail, without the password."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.contrib.postgres.functions import TransactionNow  # the start of the test, which is one transaction
from django.http import HttpRequest
from django.test import Client

from fleet import caller
from fleet.audit.models import Entry

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


@pytest.fixture
def ann() -> User:
    return User.objects.create_superuser("ann", password=PASSWORD)


def entries() -> list[tuple[str, str, str, str, int | None]]:
    found = Entry.objects.filter(
        at__gte=TransactionNow(), kind__in=["sign_in", "sign_out"], subject__in=["user:ann", "user:eve"]
    ).order_by("id")
    return [(item.kind, item.outcome, item.subject, item.actor, item.user_id) for item in found]


def test_signing_in_and_out_of_the_admin_is_recorded(ann: User, client: Client) -> None:
    client.post(
        "/admin/login/", {"username": "ann", "password": PASSWORD, "next": "/admin/"}, headers={"User-Agent": "Lynx"}
    )
    entry = Entry.objects.filter(kind="sign_in").order_by("-id")[0]
    assert (entry.address, entry.data) == ("127.0.0.1", {"path": "/admin/login/", "agent": "Lynx"})
    client.post("/admin/logout/")
    assert entries() == [
        ("sign_in", "ok", "user:ann", "user:ann", ann.pk),
        ("sign_out", "ok", "user:ann", "user:ann", ann.pk),
    ]


def test_a_failed_sign_in_is_recorded_without_the_password(ann: User, client: Client) -> None:
    for name in ("ann", "eve"):
        client.post("/admin/login/", {"username": name, "password": "guessed-it-wrong"})
    assert [line[:3] for line in entries()] == [("sign_in", "failed", "user:ann"), ("sign_in", "failed", "user:eve")]
    for entry in Entry.objects.filter(kind="sign_in"):
        assert "guessed-it-wrong" not in str(list(Entry.objects.filter(id=entry.id).values()))


def test_the_recorded_address_is_that_of_the_caller(ann: User) -> None:
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = "10.0.0.1"  # the address of the proxy
    with caller.acting_as(caller.Caller(name="anonymous", address="192.0.2.9", request="req-1")):
        assert authenticate(request, username="ann", password="wrong") is None
    entry = Entry.objects.filter(kind="sign_in").order_by("-id")[0]
    assert (entry.address, entry.request, entry.actor) == ("192.0.2.9", "req-1", "anonymous")


def test_a_lockout_is_recorded_when_it_begins(ann: User, client: Client) -> None:
    for _ in range(settings.AXES_FAILURE_LIMIT + 1):
        client.post("/admin/login/", {"username": "ann", "password": "guessed-it-wrong"})
    client.post("/admin/login/", {"username": "ann", "password": PASSWORD})
    found = Entry.objects.filter(kind="lockout").order_by("-id")[0]
    assert (found.outcome, found.subject, found.address) == ("denied", "user:ann", "127.0.0.1")
    assert ("sign_in", "ok", "user:ann") not in [line[:3] for line in entries()]
