"""Password guessing is stopped by the number of tries per address and per name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.management import call_command
from django.db.models import F
from django.test import Client, RequestFactory, override_settings
from django.test.client import MULTIPART_CONTENT

from fleet.limits import addresses
from fleet.limits.rates import OFF, Rate
from tests.support import web

pytestmark = pytest.mark.django_db

PAGE = "/admin/login/"
FAILURES = 3


@pytest.fixture(autouse=True)
def few() -> Iterator[None]:
    caches["default"].clear()
    User.objects.create_superuser("ann", password=web.PASSWORD)
    with override_settings(
        FLEET_LOCKOUT_FAILURES=FAILURES, AXES_FAILURE_LIMIT=FAILURES, FLEET_LIMIT_AUTH=OFF,
        FLEET_TRUSTED_PROXIES=addresses.parse_networks("127.0.0.1"),
    ):  # fmt: skip
        yield
    caches["default"].clear()


def sign_in(password: str, *, name: str = "ann", address: str = "198.51.100.1") -> int:
    form = {"username": name, "password": password}
    return Client().post(PAGE, form, headers={"X-Forwarded-For": address}).status_code


def test_after_some_failures_even_the_correct_password_is_refused() -> None:
    assert [sign_in("a guess") for _ in range(FAILURES - 1)] == [200] * (FAILURES - 1)
    assert sign_in("a guess") == 429
    response = Client().post(
        PAGE, {"username": "ann", "password": web.PASSWORD}, headers={"X-Forwarded-For": "198.51.100.1"}
    )
    assert (response.status_code, response["RateLimit-Limit"], response["RateLimit-Remaining"]) == (429, "3", "0")
    assert "3 sign-ins with this name failed from your address" in response.content.decode()
    assert "for 15 min." in response.content.decode()


def test_a_lockout_applies_to_one_name_from_one_address() -> None:
    User.objects.create_superuser("bob", password=web.PASSWORD)
    assert [sign_in("a guess") for _ in range(FAILURES)][-1] == 429
    assert sign_in(web.PASSWORD, address="198.51.100.2") == 302
    assert sign_in(web.PASSWORD, name="bob") == 302
    assert sign_in(web.PASSWORD) == 429


def test_more_addresses_of_one_network_give_no_more_tries() -> None:
    assert [sign_in("a guess", address=f"2001:db8::{number}") for number in range(FAILURES)][-1] == 429
    assert sign_in(web.PASSWORD, address="2001:db8::ffff") == 429
    assert sign_in(web.PASSWORD, address="2001:db8:0:1::1") == 302


def test_another_spelling_of_a_name_gives_no_more_tries() -> None:
    assert [sign_in("a guess", name=name) for name in ("ann", "ａｎｎ", " ann ")][-1] == 429
    for name in ("ann", "ａnn", "ann\t", "ann\N{NO-BREAK SPACE}"):
        assert sign_in(web.PASSWORD, name=name) == 429
        body = {"username": name, "password": web.PASSWORD}
        response = Client().post(
            "/api/v1/auth/token", body, content_type="application/json", headers={"X-Forwarded-For": "198.51.100.1"}
        )
        assert response.status_code in (401, 429), "the API does not normalise full-width letters"


def test_a_success_resets_the_count() -> None:
    for _ in range(3):
        assert sign_in("a guess") == 200
        assert sign_in(web.PASSWORD) == 302


def test_a_lockout_ends_by_itself_and_further_tries_do_not_extend_it() -> None:
    assert [sign_in("a guess") for _ in range(FAILURES + 2)][-1] == 429
    before = AccessAttempt.objects.get().attempt_time
    assert sign_in(web.PASSWORD) == 429
    assert AccessAttempt.objects.get().attempt_time == before
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=16))
    assert sign_in(web.PASSWORD) == 302


def test_a_lockout_reports_its_remaining_time() -> None:
    assert [sign_in("a guess") for _ in range(FAILURES)][-1] == 429
    AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=10))
    for path, media_type in ((PAGE, MULTIPART_CONTENT), ("/api/v1/auth/token", "application/json")):
        response = Client().post(
            path, {"username": "ann", "password": web.PASSWORD}, media_type, headers={"X-Forwarded-For": "198.51.100.1"}
        )
        assert (response.status_code, response["RateLimit-Limit"], response["RateLimit-Remaining"]) == (429, "3", "0")
        assert response["Retry-After"] == response["RateLimit-Reset"]
        assert 200 < int(response["Retry-After"]) <= 300
        assert re.search("for [45] min\\.", response.content.decode())


def test_a_lockout_lasts_until_enough_failures_have_expired() -> None:
    for minute, program in enumerate(["one", "another", "a third"]):
        headers = {"X-Forwarded-For": "198.51.100.1", "User-Agent": program}
        response = Client().post(PAGE, {"username": "ann", "password": "a guess"}, headers=headers)
        AccessAttempt.objects.filter(user_agent=program).update(
            attempt_time=F("attempt_time") - timedelta(minutes=10 - 5 * minute)
        )
    assert response.status_code == 429
    second_response = Client().post(
        PAGE, {"username": "ann", "password": web.PASSWORD}, headers={"X-Forwarded-For": "198.51.100.1"}
    )
    assert 200 < int(second_response["Retry-After"]) <= 300, "by then the first failure has expired, and two are left"


def test_an_operator_can_end_a_lockout() -> None:
    assert [sign_in("a guess") for _ in range(FAILURES)][-1] == 429
    call_command("axes_reset_username", "ann", verbosity=0)
    assert sign_in(web.PASSWORD) == 302


def test_sign_ins_with_a_request_are_counted_and_reported() -> None:
    def try_password(password: str) -> tuple[bool, bool]:
        request = RequestFactory().post("/api/v1/auth/token")
        user = authenticate(request, username="ann", password=password)
        return user is not None, getattr(request, "axes_locked_out", False)

    assert [try_password("a guess") for _ in range(FAILURES)] == [(False, False)] * (FAILURES - 1) + [(False, True)]
    assert try_password(web.PASSWORD) == (False, True)
    assert authenticate(username="ann", password=web.PASSWORD) is not None, "without a request, the caller is this host"


@pytest.mark.parametrize("name", ["an\0n", "x" * 10_000, "", "'; DROP TABLE auth_user; --", "🦊"])
def test_names_with_any_characters_are_counted(name: str) -> None:
    request = RequestFactory().post("/api/v1/auth/token")
    for _ in range(FAILURES):
        assert authenticate(request, username=name, password="a guess") is None
    assert getattr(request, "axes_locked_out", False)
    assert sign_in("a guess", name=name, address="198.51.100.7") == 200


def test_passwords_are_not_stored() -> None:
    sign_in("a very secret guess")
    row = AccessAttempt.objects.values().get()
    assert "a very secret guess" not in str(row)
    assert row["ip_address"] == "198.51.100.1"


def test_the_sign_in_page_counts_tries_by_address_for_all_names() -> None:
    with override_settings(FLEET_LIMIT_AUTH=Rate(4, 3_600)):
        assert [sign_in("a guess", name=f"user{n}") for n in range(4)] == [200] * 4
        response = Client().post(PAGE, {}, headers={"X-Forwarded-For": "198.51.100.1"})
        assert (response.status_code, response["RateLimit-Limit"], response["RateLimit-Remaining"]) == (429, "4", "0")
        assert 0 < int(response["Retry-After"]) <= 3_600
        assert response.content.decode().startswith("Too many requests: the limit is 4")
        assert sign_in(web.PASSWORD, address="198.51.100.2") == 302
        assert Client().get(PAGE, headers={"X-Forwarded-For": "198.51.100.1"}).status_code == 200, (
            "opening the page does not count as a try"
        )


def test_forging_an_address_gives_no_more_tries() -> None:
    with override_settings(FLEET_LIMIT_AUTH=Rate(2, 3_600), FLEET_TRUSTED_PROXIES=[]):
        assert [sign_in("a guess", name=str(n), address=f"198.51.100.{n}") for n in range(3)] == [200, 200, 429]


def test_the_api_has_the_same_lockout_and_responds_with_a_problem() -> None:
    def try_password(password: str) -> Any:
        body = {"username": "ann", "password": password}
        return Client().post("/api/v1/auth/token", body, content_type="application/json")

    for _ in range(FAILURES):
        response = try_password("a guess")
    assert (response.status_code, response["Content-Type"]) == (429, "application/problem+json")
    document = json.loads(response.content)
    assert (document["code"], document["status"], document["request_id"]) == (
        "locked_out",
        429,
        response["X-Request-ID"],
    )
    assert try_password(web.PASSWORD).status_code == 429


def test_signing_in_on_the_page_leads_to_the_admin() -> None:
    response = Client().post(PAGE, {"username": "ann", "password": web.PASSWORD})
    assert (response.status_code, response["Location"]) == (302, "/admin/")
