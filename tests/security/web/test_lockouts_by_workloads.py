"""A workload that tries passwords from this host's address does not lock out the browsers that people use here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import Client, override_settings

from fleet.limits import known_browsers
from fleet.limits.rates import OFF, Rate
from tests.support import web

pytestmark = pytest.mark.django_db

PAGE = "/admin/login/"
FAILURES = 3


@pytest.fixture(autouse=True)
def few() -> Iterator[None]:
    caches["default"].clear()
    for name in ("ann", "bob"):
        User.objects.create_superuser(name, password=web.PASSWORD)
    with override_settings(FLEET_LOCKOUT_FAILURES=FAILURES, AXES_FAILURE_LIMIT=FAILURES, FLEET_LIMIT_AUTH=OFF):
        yield
    caches["default"].clear()


@pytest.fixture
def browser() -> Client:
    """A browser in which ann has signed in, and then signed out."""
    browser = Client()
    assert sign_in(browser) == 302
    assert browser.post("/admin/logout/").status_code == 200
    return browser


def sign_in(client: Client, *, name: str = "ann", password: str = web.PASSWORD) -> int:
    return client.post(PAGE, {"username": name, "password": password}).status_code


def lock_out(name: str = "ann") -> None:
    for _ in range(FAILURES):
        status = sign_in(Client(), name=name, password="a guess")
    assert status == 429


def test_a_browser_in_which_the_user_has_signed_in_is_not_locked_out(browser: Client) -> None:
    lock_out()
    assert sign_in(Client()) == 429
    assert sign_in(browser) == 302


def test_attempts_of_others_do_not_use_up_the_rate_of_a_known_browser(browser: Client) -> None:
    with override_settings(FLEET_LIMIT_AUTH=Rate(2, 3_600)):
        assert [sign_in(Client(), name=f"user{n}", password="a guess") for n in range(3)] == [200, 200, 429]
        assert sign_in(Client()) == 429
        assert sign_in(browser) == 302
        browser.post("/admin/logout/")
        assert [sign_in(browser, password="a guess") for _ in range(2)] == [200, 429], "it has a rate of its own"


def test_a_known_browser_has_as_many_tries_as_an_address(browser: Client) -> None:
    assert [sign_in(browser, password="a guess") for _ in range(FAILURES)][-1] == 429
    assert sign_in(browser) == 429
    assert sign_in(Client()) == 302, "its failures lock out nobody else"


def test_the_cookie_helps_with_no_other_name(browser: Client) -> None:
    lock_out("bob")
    assert sign_in(browser, name="bob") == 429


@pytest.mark.parametrize("change", [lambda value: "x" + value, lambda value: value[:-1], lambda value: "", str.upper])
def test_a_changed_cookie_is_worth_nothing(browser: Client, change: object) -> None:
    assert callable(change)
    browser.cookies[known_browsers.COOKIE] = change(browser.cookies[known_browsers.COOKIE].value)
    lock_out()
    assert sign_in(browser) == 429


def test_failures_leave_no_cookie() -> None:
    client = Client()
    assert sign_in(client, password="a guess") == 200
    assert known_browsers.COOKIE not in client.cookies
    assert AccessAttempt.objects.get().ip_address == "127.0.0.1"


def test_scripts_and_other_pages_do_not_get_the_cookie(browser: Client) -> None:
    cookie = browser.cookies[known_browsers.COOKIE]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == (PAGE, True, "Strict")
