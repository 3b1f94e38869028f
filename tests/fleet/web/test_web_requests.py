"""Each request has an id, and its caller is known to the code that it runs, in threads and in async code."""

from __future__ import annotations

import asyncio

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings

from fleet import caller
from fleet.limits import addresses
from fleet.web import requests

HEALTH = "/healthz"


def request_id(**headers: str) -> str:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return str(Client().get(HEALTH, headers=names)["X-Request-ID"])


def test_every_response_has_the_id_of_its_request() -> None:
    first, second = request_id(), request_id()
    assert first != second
    assert first.startswith("req_")
    assert Client().get("/nothing/here")["X-Request-ID"]


def test_a_clients_request_id_is_kept_if_it_is_short_and_plain() -> None:
    assert request_id(X_Request_ID="4bf92f3577b34da6") == "4bf92f3577b34da6"
    assert request_id(X_Request_ID="a.b-c_d:1") == "a.b-c_d:1"


@pytest.mark.parametrize("id", ["", "x" * 65, "two words", "a\nb", "a;b", "<b>", "é", "\u202e"])
def test_any_other_request_id_is_replaced(id: str) -> None:
    assert request_id(X_Request_ID=id).startswith("req_")


def look(request: HttpRequest) -> HttpResponse:
    now = caller.current()
    return HttpResponse(f"{now.name} {now.address} {now.request}")


async def look_later(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return look(request)


def test_the_caller_is_known_during_the_request_and_not_after_it() -> None:
    request = RequestFactory().get("/", headers={"X-Request-ID": "abc"}, REMOTE_ADDR="198.51.100.4")
    with override_settings(FLEET_TRUSTED_PROXIES=[]):
        plain = requests.request_context(look)(request)
        later = asyncio.run(requests.request_context(look_later)(request))
    assert plain.content == later.content == b"anonymous 198.51.100.4 abc"
    assert caller.current() is caller.SYSTEM


def test_concurrent_requests_have_separate_callers() -> None:
    async def all() -> list[bytes]:
        served = requests.request_context(look_later)
        values = [RequestFactory().get("/", headers={"X-Request-ID": f"r{n}"}) for n in range(20)]
        return [response.content for response in await asyncio.gather(*(served(item) for item in values))]

    assert asyncio.run(all()) == [f"anonymous 127.0.0.1 r{n}".encode() for n in range(20)]


@pytest.mark.parametrize("proxies, secure", [("127.0.0.1", True), ("10.0.0.1", False), ("", False)])
def test_only_a_trusted_proxy_can_say_that_a_request_used_https(proxies: str, secure: bool) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(request.is_secure()))

    with override_settings(FLEET_TRUSTED_PROXIES=addresses.parse_networks(proxies)):
        response = requests.request_context(view)(RequestFactory().get("/", headers={"X-Forwarded-Proto": "https"}))
    assert response.content == str(secure).encode()
