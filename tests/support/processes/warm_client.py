"""Starts commands in a warm process (warm.py beside it), and is the program that does so in place of `manage.py`.

It imports little, because that program must start quickly.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

READ_BY_SETTINGS = ("CELERY", "DATABASE", "DJANGO", "FLEET", "REDIS")  # prefixes of the names of their variables


class Command:
    """A command that runs in a child of the warm process."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pid = self._number()

    def wait(self, *, timeout_s: float | None = None) -> int:
        """Its exit code. Raises TimeoutError."""
        self.connection.settimeout(timeout_s)
        return self._number()

    def _number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            if not (piece := self.connection.recv(64)):
                raise ConnectionError("The warm process ended.")
            line += piece
        return int(line)


def start(
    address: str, argv: Sequence[str], *, env: Mapping[str, str] | None, cwd: str, streams: tuple[int, int, int]
) -> Command:
    """Start `argv`, whose first word is the name of the program. `streams`: its standard input, output and error.

    `env`: its environment; None: that of the warm process.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(address)
    request = json.dumps({"argv": list(argv), "env": env and dict(env), "cwd": cwd}).encode() + b"\n"
    sent = socket.send_fds(connection, [request], streams)
    connection.sendall(request[sent:])
    return Command(connection)


def settings_of(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that the settings may read."""
    return {name: value for name, value in env.items() if name.startswith(READ_BY_SETTINGS)}


def main(address: str, manage: str, expected: Mapping[str, str]) -> int:
    """Run this process's command in the warm process at `address`, which has read the settings `expected`.

    With other settings, or where the process cannot be reached, this becomes the program `manage`.
    """
    try:
        if settings_of(os.environ) != expected:
            raise OSError("other settings")
        command = start(address, sys.argv, env=os.environ, cwd=os.getcwd(), streams=(0, 1, 2))
    except OSError:  # in a sandbox, for example
        os.execv(sys.executable, [sys.executable, manage, *sys.argv[1:]])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(command.pid, received))
    return command.wait() % 256
