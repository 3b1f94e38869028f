"""Workloads cannot connect to the embedded servers, use up their connections, or take their ports while they restart."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from fleet.config import credentials, datastores
from fleet.config.env import Environment
from fleet.config.home import Home
from tests.support.postgres.cluster import Cluster, remove, temporary

EMBEDDED = Environment({"FLEET_SERVICES": "embedded"})
ON_SOCKETS = Environment({"FLEET_SERVICES": "embedded", "FLEET_EMBEDDED_SOCKETS": "yes"})
ON_PORTS = Environment({"FLEET_SERVICES": "embedded", "FLEET_EMBEDDED_SOCKETS": "no"})


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    services = temporary(durable=False, sockets=True)
    try:
        services.start()
        yield services
    finally:
        remove(services)


def listening_ports(pid: int) -> list[int]:
    server = psutil.Process(pid)
    return [
        connection.laddr.port
        for process in (server, *server.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]


def test_the_embedded_servers_listen_on_no_port_and_require_passwords(cluster: Cluster) -> None:
    assert [listening_ports(cluster.pid(name)) for name in ("postgres", "valkey")] == [[], []]
    at = cluster.endpoints().postgres
    assert Path(at.host) == cluster.home.private / "postgres"
    assert (cluster.home.private.stat().st_mode & 0o777) == 0o700
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=at.host, port=at.port, user=at.user, dbname=at.name, password="wrong")


def resolve(environment: Environment, home: Home) -> datastores.Endpoints:
    return datastores.resolve(environment, home, credentials.ensure(home))


@pytest.fixture
def short_home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        yield Home(Path(folder))


def test_the_embedded_servers_listen_on_sockets_by_default(short_home: Home) -> None:
    endpoints = resolve(EMBEDDED, short_home)
    assert endpoints == resolve(ON_SOCKETS, short_home)
    assert endpoints.redis.path == str(short_home.private / "valkey" / "valkey.sock")
    assert resolve(ON_PORTS, short_home).postgres.host == "127.0.0.1"


def test_they_listen_on_ports_if_the_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 100))
    assert resolve(EMBEDDED, home) == resolve(ON_PORTS, home)
    with pytest.raises(ImproperlyConfigured, match=r"FLEET_EMBEDDED_SOCKETS: .* Set FLEET_PRIVATE"):
        resolve(ON_SOCKETS, home)
