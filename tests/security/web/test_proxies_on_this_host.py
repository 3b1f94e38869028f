"""A proxy on the fleet's own host: workloads can reach the port, but not the socket, so only the socket is trusted."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from fleet.config import ports, unix_sockets
from fleet.config.env import Environment
from tests.support.paths import CHECKOUT
from tests.support.processes import live
from tests.support.waiting import until

pytestmark = pytest.mark.django_db

LIMIT = 3


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("127.0.0.1", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def status(connection: http.client.HTTPConnection, path: str = "/api/v1/me", *, client: str = "") -> int:
    """The status of a request in which the peer claims to forward it for a client."""
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"X-Forwarded-For": client} if client else {})
        return connection.getresponse().status


@contextlib.contextmanager
def site(path: Path, *, port: int) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ, **live.environment(), "DJANGO_SETTINGS_MODULE": "fleet.settings", "FLEET_PROCESS": "web",
        "FLEET_WEB_WORKERS": "1", "FLEET_WEB_SOCKET": str(path), "FLEET_TRUSTED_PROXIES": "unix",
        "FLEET_LIMIT_IP": f"{LIMIT}/h",
    }  # fmt: skip
    with (path.parent / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet.web", f"--port={port}"], cwd=CHECKOUT, stdout=log, stderr=log, env=env
        )
    try:
        until(lambda: process.poll() is not None or answers(path))
        yield process
    finally:
        process.terminate()
        process.wait(60)


def answers(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return status(SocketConnection(path), "/healthz") == 200
    return False


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")  # a short path


def test_only_the_socket_can_name_the_client(folder: Path) -> None:
    path, port = folder / "web.sock", ports.find_free()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))  # it stays behind, as after a kill
    clients = [f"198.51.100.{number}" for number in range(LIMIT + 2)]
    with site(path, port=port) as process:
        assert process.poll() is None
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        through_port = [status(http.client.HTTPConnection("127.0.0.1", port), client=client) for client in clients]
        through_socket = [status(SocketConnection(path), client=client) for client in clients]
        assert through_port == [401] * LIMIT + [429] * 2
        assert through_socket == [401] * len(clients)
        with site(path, port=ports.find_free()) as second:
            assert second.wait(60) != 0
        assert answers(path)
    assert not path.exists()


def test_the_path_of_the_socket_is_absolute() -> None:
    for text in ("web.sock", "/" + "x" * 200):
        with pytest.raises(ImproperlyConfigured, match="FLEET_WEB_SOCKET"):
            Environment({"FLEET_WEB_SOCKET": text}).parsed("FLEET_WEB_SOCKET", "", unix_sockets.parse_path)
