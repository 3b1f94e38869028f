"""Log lines carry their context, cannot be forged, and are JSON on request."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from fleet import caller, ids
from fleet.caller import Caller
from fleet.observability import logs
from missions.claims import Claim
from tests.support import api
from tests.support.paths import CHECKOUT

ANN = Caller(name="user:ann", user=1, address="198.51.100.1", request="req_1")


def line(style: str, text: str = "it happened", *args: object, **more: Any) -> str:
    record = logging.getLogger("fleet.test").makeRecord(
        "fleet.test", logging.WARNING, __file__, 1, text, args, more.pop("exc_info", None)
    )
    return logs.formatter(style=style).format(record)


def test_a_json_line_is_one_object_with_its_context() -> None:
    claim = Claim(id=ids.new(), mission=ids.new(), key="a", attempt=3, tries=0, max_tries=1, spec={})
    before = logs.work_fields.set(claim.log_fields)
    try:
        with caller.acting_as(ANN):
            document = json.loads(line("json", "%s is %d", "one", 1))
    finally:
        logs.work_fields.reset(before)
    assert document.pop("at").endswith("+00:00")
    assert document == {
        "event": "one is 1", "level": "warning", "logger": "fleet.test", "request": "req_1", "by": "user:ann",
        "address": "198.51.100.1", "mission": ids.encode(ids.MISSION, claim.mission),
        "sortie": ids.encode(ids.SORTIE, claim.id), "attempt": 3,
    }  # fmt: skip


def test_unknown_fields_are_omitted() -> None:
    assert set(json.loads(line("json"))) == {"at", "event", "level", "logger"}
    assert line("plain").endswith(" WARNING fleet.test: it happened")


def test_in_plain_lines_the_context_follows_the_text() -> None:
    with caller.acting_as(ANN), structlog.contextvars.bound_contextvars(note="two words"):
        assert line("plain").endswith(
            " WARNING fleet.test: it happened [note=two words request=req_1 by=user:ann address=198.51.100.1]"
        )


@pytest.mark.parametrize("style", ["plain", "json"])
def test_text_from_outside_cannot_start_a_line_or_control_the_terminal(style: str) -> None:
    result = line(style, "asked for %s", "/x\n2026-01-01 00:00:00,000 ERROR fleet.audit: forged\r\x1b[2J\x00")
    assert "\x1b" not in result
    assert "\x00" not in result
    assert "\r" not in result
    assert not any(item.startswith("2026-01-01") for item in result.splitlines()[1:])


@pytest.mark.parametrize("style", ["plain", "json"])
def test_an_unexpected_error_is_logged_with_its_traceback(style: str) -> None:
    try:
        raise ValueError("it broke")
    except ValueError:
        result = line(style, exc_info=sys.exc_info())
    assert "ValueError: it broke" in result
    assert "Traceback" in result


SPEAK = """
import logging, django; django.setup()
from fleet.observability import logs
import {first}
django.setup()
for name in ("fleet.node", "django.request", "uvicorn.error", "celery.worker", "uvicorn.access"):
    logging.getLogger(name).info("quiet")
    logging.getLogger(name).warning("loud")
"""


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "fleet.settings", **env}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("read", [json.loads, str])
def test_libraries_log_in_the_same_format_and_commands_only_warnings(read: Callable[[str], Any]) -> None:
    result = run_python(SPEAK.format(first="uvicorn"), FLEET_LOG="json" if read is json.loads else "plain")
    lines = [read(item) for item in result.stderr.splitlines()]
    assert len(lines) == 5, result.stderr
    assert all("loud" in str(item) for item in lines)
    assert result.stdout == ""


def test_a_service_still_logs_info_after_a_second_django_setup() -> None:
    result = run_python("import django; django.setup()\nfrom fleet.observability import logs; logs.enable_info(); django.setup()\n"
               "import logging, io, sys; sys.stderr = io.StringIO(); logging.getLogger('fleet.node').info('I do')")  # fmt: skip
    assert result.stderr.endswith("INFO fleet.node: I do\n")


def test_an_unknown_style_is_refused() -> None:
    result = run_python("import django; django.setup()", FLEET_LOG="xml")
    assert "FLEET_LOG='xml' is not one of: plain, json." in result.stderr


@pytest.mark.django_db
def test_djangos_logs_of_error_responses_name_request_and_caller() -> None:
    items: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: items.append(logs.formatter(style="json").format(record))  # type: ignore[method-assign]
    logging.getLogger("django.request").addHandler(handler)
    try:
        ann = api.person("ann")
        ann.get("missions?limit=none", X_Request_ID="asked-1")
    finally:
        logging.getLogger("django.request").removeHandler(handler)
    (result,) = map(json.loads, items)
    assert (result["request"], result["by"], result["event"]) == (
        "asked-1",
        "user:ann",
        "Unprocessable Entity: /api/v1/missions",
    )
