"""Servers of tests beside the shared cluster: any program that listens on a port of the loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from fleet.services.providers import identity
from fleet.services.supervision.service import Identity
from tests.support.waiting import until


class Server:
    """A program in a folder of its own. As root it runs as nobody, because some of them refuse root."""

    def __init__(self, argv: Sequence[str | Path], *, folder: Path, port: int, name: str = "server") -> None:
        self.port, self._folder, self._name = port, folder, name
        self._argv = [str(word) for word in argv]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._process is None:
            self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self._folder / f"{self._name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                identity.launch_command(self._argv, identity=_identity(), on_orphan=signal.SIGKILL),
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until(self._listens)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def log(self) -> str:
        return (self._folder / f"{self._name}.log").read_text(errors="replace")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self._name} ended:\n{self.log()[-2000:]}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _identity() -> Identity:
    return "namespace" if os.geteuid() == 0 else "same"


def run_as_server(argv: Sequence[str | Path], *, cwd: Path) -> None:
    """Run a program to its end as the user that a Server runs as."""
    command = identity.launch_command([str(word) for word in argv], identity=_identity(), on_orphan=signal.SIGKILL)
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=120)
