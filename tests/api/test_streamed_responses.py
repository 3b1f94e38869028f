"""Downloads and followed logs hold no database connection while their clients read."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest
from django.db import connection

from missions.models import Attempt, Output
from tests.support import api, artifacts
from tests.support.processes import live
from tests.support.processes.live import Listener, Web
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
POOL = 2


def send_request(web: Web, path: str, bearer: str) -> socket.socket:
    """A client that reads only the beginning of the response."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(30)
    client.connect(("127.0.0.1", web.port))
    client.send(f"GET /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode())
    return client


def test_more_streamed_responses_than_connections_leave_the_pool_to_others(tmp_path: Path) -> None:
    ann = api.person("ann")
    sortie = live.mission_of(ann.user).sorties.get()
    Attempt.objects.create(sortie=sortie, number=1)
    Output.objects.create(sortie=sortie, attempt=1, stream="stdout", text="hello\n")
    file = artifacts.add(sortie, path="large", content=bytes(20_000_000))
    paths = [f"sorties/{sortie.ref}/logs.txt?follow=true", f"artifacts/{file.ref}/content"] * (POOL + 1)
    env = {**live.environment(), "FLEET_WEB_POOL": str(POOL)}
    with live.serving(tmp_path, env) as web, contextlib.ExitStack() as open_connections:
        clients = [open_connections.enter_context(send_request(web, path, ann.bearer)) for path in paths]
        assert {client.recv(12) for client in clients} == {b"HTTP/1.1 200"}
        assert web.request("GET", "/api/v1/me", Authorization=f"Bearer {ann.bearer}")[0] == 200


def test_a_head_request_for_a_followed_log_ends_at_once() -> None:
    ann = api.person("ann")
    sortie = live.mission_of(ann.user).sorties.get()
    response = ann.send("HEAD", f"sorties/{sortie.ref}/logs.txt?follow=true")
    assert (response.status_code, response["Accept-Ranges"], list(response.streaming_content)) == (200, "none", [])


def other_connections() -> int:
    """The number of other connections to this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        (count,) = cursor.fetchone()
    return int(count)


def test_the_readers_connection_closes_with_the_last_stream(tmp_path: Path) -> None:
    ann = api.person("ann")
    before = other_connections()  # earlier tests may have left some
    with live.serving(tmp_path, {**live.environment(), "FLEET_WEB_POOL": "0"}) as web:
        with Listener(web, "/api/v1/events/stream", Authorization=f"Bearer {ann.bearer}") as listener:
            assert listener.status == 200
            until(lambda: other_connections() > before)
        until(lambda: other_connections() <= before)
