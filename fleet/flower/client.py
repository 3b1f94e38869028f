"""Sends a request to Flower over its Unix socket, with its credentials."""

from __future__ import annotations

import base64
import http.client
import socket
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import IO

from fleet import errors
from fleet.config import unix_sockets
from fleet.config.credentials import Credentials
from fleet.config.home import Home
from fleet.console import invocation

SOCKET = "flower.sock"
PREFIX = "flower"
USER = "admin"
TIMEOUT_S = 30
CHUNK_BYTES = 1 << 16


class _Connection(http.client.HTTPConnection):
    """HTTP over the Unix socket, regardless of the host."""

    def __init__(self, home: Home) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._home = home

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        with unix_sockets.address(self._home, SOCKET) as address:
            self.sock.connect(address)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: Generator[bytes]  # read as it arrives; exhausting or closing it closes the connection


def send_request(
    *,
    home: Home,
    credentials: Credentials,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: IO[bytes] | None = None,
) -> Response:
    """Send a request and return the response once its headers have arrived. Raises Unavailable if there is none.

    `target` is the quoted path with its query.
    """
    connection = _Connection(home)
    key = base64.b64encode(f"{USER}:{credentials.flower_password}".encode()).decode()
    try:
        connection.request(method, target, body=body, headers={**headers, "Authorization": f"Basic {key}"})
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise errors.Unavailable(
            "Flower does not answer.", hint=f"See its log: {invocation.command('fleet_services', 'logs', 'flower')}"
        ) from error
    return Response(response.status, response.getheaders(), _pieces(connection, response))


def _pieces(connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> Generator[bytes]:
    try:
        while piece := response.read1(CHUNK_BYTES):
            yield piece
    finally:
        connection.close()
