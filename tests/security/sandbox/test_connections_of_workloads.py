"""With FLEET_EMBEDDED_SOCKETS, workloads have nothing to connect to, so they cannot use up connections."""

from __future__ import annotations

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

ON_SOCKETS = Environment({"FLEET_SERVICES": "embedded", "FLEET_EMBEDDED_SOCKETS": "yes"})


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


def test_a_private_folder_with_a_long_path_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 100))
    with pytest.raises(ImproperlyConfigured, match=r"FLEET_EMBEDDED_SOCKETS: .* Set FLEET_PRIVATE"):
        datastores.resolve(ON_SOCKETS, home, credentials.ensure(home))
