"""Probes tell a server that is away from one that refuses the configuration."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings

from fleet import errors
from fleet.config.home import Home
from fleet.services.providers import probes
from fleet.services.supervision.service import Overloaded
from tests.support.postgres.cluster import Cluster


@contextmanager
def answering(data: bytes) -> Iterator[int]:
    """A server that answers one request with this data. Its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(60)


def probe(awaitable: Awaitable[None]) -> None:
    async def wait() -> None:
        await awaitable

    asyncio.run(wait())


@pytest.mark.parametrize("status", [b"200 OK", b"302 Found", b"404 Not Found"])
def test_a_site_that_answers_is_healthy_whatever_is_behind_the_path(status: bytes) -> None:
    with answering(b"HTTP/1.1 " + status + b"\r\n\r\n") as port:
        probe(probes.http(port, "/healthz"))


@pytest.mark.parametrize("data", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"A B\r\n", b""])
def test_a_site_that_fails_or_another_program_on_its_port_is_not_healthy(data: bytes) -> None:
    with answering(data) as port, pytest.raises(errors.Unavailable) as error:
        probe(probes.http(port, "/healthz"))
    assert str(error.value).startswith(f"Port {port} answers /healthz with '{data.decode().strip()}'")


def test_a_socket_that_does_not_exist_does_not_answer(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_folders()
    with pytest.raises(errors.Unavailable, match=r"Socket flower\.sock does not answer: .*No such file"):
        probe(probes.http_socket(home, "flower.sock", "/"))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"password": ""}, "requires a password and DATABASE_URL has none"),
        ({"password": "wrong"}, "refuses DATABASE_URL: .*authentication failed"),
        ({"name": "nowhere"}, 'refuses DATABASE_URL: .*database "nowhere" does not exist'),
    ],
)
def test_a_postgres_that_refuses_its_url_is_not_tried_again(change: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.Invalid, match=words) as refusal:
        probe(probes.postgres(replace(settings.FLEET_ENDPOINTS.postgres, **change)))
    assert "wrong" not in str(refusal.value)


def test_a_valkey_without_a_free_connection_is_overloaded_and_not_away(private_services: Cluster) -> None:
    url = private_services.environment()["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        client.config_set("maxclients", 1)
        with pytest.raises(Overloaded, match="Redis has no connection left"):
            probe(probes.redis_server(url))
    probe(probes.redis_server(url))
