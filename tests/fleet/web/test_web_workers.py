"""Several processes serve the site on one port, and end together."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from django.test import override_settings

from fleet import errors
from fleet.config import ports
from fleet.live.hub import Hub
from fleet.web import shared_counters
from fleet.web.shared_counters import SharedCounters
from tests.support.paths import CHECKOUT
from tests.support.waiting import until

PLACES = 10  # the limit of connections per address
HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@dataclass
class Site:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def line(self) -> socket.socket:
        """An open connection, on which one request was answered and another one has begun."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.send(HEAD + b"\r\n")
        data = b""
        while b"\r\n\r\n" not in data and (more := connection.recv(4_096)):
            data += more
        connection.send(HEAD)
        assert data.startswith(b"HTTP/1.1 200"), data
        return connection

    def is_full(self) -> bool:
        """Whether another connection is refused. It no longer counts once it has been read to its end."""
        data = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as line, contextlib.suppress(OSError):
            line.send(HEAD + b"Connection: close\r\n\r\n")
            while more := line.recv(4_096):
                data += more
        return not data.startswith(b"HTTP/1.1 200")

    def answers(self) -> bool:
        try:
            return not self.is_full()
        except OSError:
            return False


THREAD = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose operator has registered a module that starts a thread which never ends."""
    (tmp_path / "threaded.py").write_text(THREAD)
    port = ports.find_free()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet.web", f"--port={port}"], cwd=CHECKOUT, stdout=log, stderr=log,
            env={
                **os.environ, "FLEET_PROCESS": "web", "FLEET_WEB_WORKERS": "2",
                "FLEET_CALLABLES": "threaded", "PYTHONPATH": str(tmp_path),
                "FLEET_ADDRESS_CONNECTIONS": str(PLACES), "FLEET_HTTP_TIMEOUT_S": "120",
            },
        )  # fmt: skip
    new_site = Site(process, port, tmp_path / "log")
    try:
        until(new_site.answers)
        yield new_site
    finally:
        process.kill()
        process.wait()


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def have_ended(processes: list[psutil.Process]) -> bool:
    return all(not process.is_running() or process.status() == psutil.STATUS_ZOMBIE for process in processes)


def test_a_killed_process_is_replaced_while_the_others_answer(site: Site) -> None:
    until(lambda: len(site.workers()) == 2)
    victim, other = site.workers()
    victim.kill()
    assert site.answers()
    until(lambda: len(site.workers()) == 2 and victim not in site.workers())
    assert other in site.workers()
    assert f"web worker {victim.pid} ended (-9) and is replaced" in site.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_all_processes_end_with_the_parent_and_free_the_port(site: Site, number: signal.Signals) -> None:
    until(lambda: len(site.workers()) == 2)
    workers = site.workers()
    site.process.send_signal(number)
    assert site.process.wait(60) == (-9 if number is signal.SIGKILL else 0)
    until(lambda: have_ended(workers) and is_free(site.port))  # a process ends before the last of its threads


def test_the_connection_limit_of_an_address_counts_all_processes_without_killed_ones(
    site: Site,
) -> None:
    until(lambda: len(site.workers()) == 2)
    first, other = site.workers()
    with contextlib.ExitStack() as open_connections:

        def fill(worker: psutil.Process, count: int) -> None:
            """Open `count` connections to this worker, as if the kernel had assigned all of them to it."""
            halted_worker = other if worker is first else first
            halted_worker.suspend()
            until(lambda: halted_worker.status() == psutil.STATUS_STOPPED)
            for _ in range(count):
                open_connections.enter_context(site.line())
            halted_worker.resume()

        fill(first, PLACES - 3)
        fill(other, 3)
        first.suspend()
        until(lambda: first.status() == psutil.STATUS_STOPPED)
        assert site.is_full(), "with the three of the other worker, the site has reached its limit"
        first.resume()
        other.kill()
        until(lambda: not site.is_full())
        for _ in range(3):
            open_connections.enter_context(site.line())
        assert site.is_full()
    until(site.answers)


def test_counters_are_shared_and_ignore_ended_processes() -> None:
    counters = SharedCounters()
    counters.allocate(3)
    for row in (1, 2):
        if not (pid := os.fork()):
            counters.use_row(row)
            for _ in range(row * 10):
                counters.add("address:192.0.2.1")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    counters.add("address:192.0.2.1")
    assert (counters.count("address:192.0.2.1"), counters.count("address:192.0.2.2")) == (31, 0)
    counters.clear(1)
    counters.add("address:192.0.2.1", -1)
    assert counters.count("address:192.0.2.1") == 20


def test_the_limit_of_streams_counts_all_processes() -> None:
    hub = Hub()
    site_wide = shared_counters.site
    site_wide.allocate(2)
    try:
        with override_settings(FLEET_LIVE_LISTENERS=8):
            hub.check_capacity(1)
            site_wide.use_row(1)
            for name in ("listeners", "listeners:1") * 2:
                site_wide.add(name)
            site_wide.use_row(0)
            with pytest.raises(errors.RateLimited):
                hub.check_capacity(1)
            hub.check_capacity(2)
            site_wide.add("listeners", 6)
            with pytest.raises(errors.Unavailable):
                hub.check_capacity(2)
    finally:
        site_wide.allocate(1)
