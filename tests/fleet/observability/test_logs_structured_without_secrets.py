"""Secrets planted wherever something is logged never reach the log."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

from fleet import caller, ids
from fleet.caller import Caller
from fleet.observability import logs

STYLES = ["plain", "json"]
KEY = "flk_abcd1234_" + "Zk9" * 14
LEASE = f"{ids.encode(ids.SORTIE, ids.new())}.3.{'Qw7' * 14}"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyIjoiYW5uIn0.c2lnbmF0dXJlLXRoYXQtaXMtc2VjcmV0"
PLANTED = {
    "url": ("redis://:hush-1@cache:6379/0", "hush-1"),
    "database": ("cannot reach postgresql://ann:hush-2@db/fleet now", "hush-2"),
    "bearer": (f"Authorization: Bearer {KEY}", KEY[13:]),
    "basic": ("Authorization: Basic YW5uOmh1c2gtMw==", "YW5uOmh1c2gtMw=="),
    "jwt": (f"token {JWT} was refused", JWT.split(".")[2]),
    "lease": (f"the lease {LEASE} has ended", "Qw7" * 14),
    "assigned": ("password=hush-4 and api_key: hush-5", "hush-4"),
    "assigned too": ("password=hush-4 and api_key: hush-5", "hush-5"),
    "json": ('{"password": "hush-6"}', "hush-6"),
    "cookie": ("Cookie: sessionid=hush7hush7hush7; csrftoken=x", "hush7hush7hush7"),
}
OWN = list(asdict(settings.FLEET_CREDENTIALS).values())


def formatted(style: str, text: str, *args: object, exc_info: Any = None) -> str:
    record = logging.getLogger("fleet.test").makeRecord("fleet.test", 40, __file__, 1, text, args, exc_info)
    return logs.formatter(style=style).format(record)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text, secret", PLANTED.values(), ids=list(PLANTED))
def test_secrets_are_masked_in_texts_arguments_exceptions_and_context(style: str, text: str, secret: str) -> None:
    lines = [
        formatted(style, text.replace("%", "%%")),
        formatted(style, "it was %s", text),
        formatted(style, "%r", {"a": [text]}),
    ]
    try:
        raise ValueError(text)
    except ValueError:
        lines.append(formatted(style, "it broke", exc_info=sys.exc_info()))
    with caller.acting_as(Caller(name=text, address=text, request=text)):
        lines.append(formatted(style, "somebody"))
    with structlog.contextvars.bound_contextvars(note=text):
        lines.append(formatted(style, "noted"))
    before = logs.work_fields.set(lambda: {"sortie": text})
    try:
        lines.append(formatted(style, "about"))
    finally:
        logs.work_fields.reset(before)
    assert [line for line in lines if secret in line] == []
    if style == "json":
        assert all(json.loads(line)["logger"] == "fleet.test" for line in lines)


@pytest.mark.parametrize("style", STYLES)
def test_the_fleets_own_secrets_are_masked_whatever_their_name_or_shape(style: str) -> None:
    for secret in (*OWN, settings.SECRET_KEY):
        assert secret not in formatted(style, "x%sy", secret)
        assert secret not in formatted(style, f"{secret}\nand once more {secret}")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["password", "Authorization", "refresh_token", "csrf_token", "api_key", "session_key"])
def test_values_with_a_secret_name_are_masked(style: str, name: str) -> None:
    with structlog.contextvars.bound_contextvars(**{name: "nothing that looks like one"}):
        assert "nothing that looks like one" not in formatted(style, "bound")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError(f"no answer to {request.headers['Authorization']} at redis://:hush-8@cache/0")


urlpatterns = [path("broken", broken)]


@pytest.fixture
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """The output of a log handler of the fleet, in each format of FLEET_LOG."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logs.formatter(style=request.param))
    logging.getLogger().addHandler(handler)
    yield handler.stream
    logging.getLogger().removeHandler(handler)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("written", STYLES, indirect=True)
@override_settings(ROOT_URLCONF=__name__)
def test_secrets_of_a_failing_request_are_masked(written: io.StringIO) -> None:
    headers = {"Authorization": f"Bearer {JWT}", "Cookie": "sessionid=hush9hush9hush9", "X-Request-ID": "plain-1"}
    client = Client(raise_request_exception=False, headers=headers)
    assert client.post("/broken?ticket=hush-10", {"password": "hush-11"}).status_code == 500
    assert client.get("/nothing?ticket=hush-10").status_code == 404
    text = written.getvalue()
    assert "RuntimeError: no answer to" in text
    assert "plain-1" in text
    secrets = (JWT, "hush-8", "hush9hush9hush9", "hush-10", "hush-11")
    assert [secret for secret in secrets if secret in text] == []
