"""The redirect to https leads to this site, whatever target a client or a cache in front of the site requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pytest_django import Settings

from fleet.web.bodies import BodyLimiter
from fleet.web.handler import Handler

HOST = "fleet.example.org"


def request(target: str) -> tuple[int, str]:
    """The status of the response to a request over http, and its Location."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": target, "raw_path": target.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", HOST.encode())], "client": ("198.51.100.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    site = BodyLimiter(Handler())  # a new one, because middleware reads the settings when it is loaded
    asyncio.run(site(scope, receive, send))
    location = next((value for name, value in sent[0]["headers"] if name.lower() == b"location"), b"")
    return sent[0]["status"], location.decode()


@pytest.fixture(autouse=True)
def https(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = [HOST]
    settings.SECURE_SSL_REDIRECT = True


@pytest.mark.parametrize("path", ["/admin/", "//evil.example.com/admin/", "/\\evil.example.com"])
def test_a_path_leads_to_the_same_host(path: str) -> None:
    status, location = request(path)
    assert status == 301
    assert location.startswith(f"https://{HOST}/")


@pytest.mark.parametrize("target", [".evil.example.com/", "@evil.example.com/", "http://evil.example.com/", "*", ""])
def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    assert request(target) == (400, "")
