"""The site is served by several processes that share a port, and end together."""

from __future__ import annotations

import http.client
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

from tests.support.supervised import CHECKOUT, until


@dataclass
class Site:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def answers(self) -> bool:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            line.request("GET", "/healthz")
            return line.getresponse().status == 200
        except OSError:
            return False
        finally:
            line.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet.web", f"--port={port}"], cwd=CHECKOUT, stdout=log, stderr=log,
            env={**os.environ, "FLEET_PROCESS": "web", "FLEET_WEB_WORKERS": "2"},
        )  # fmt: skip
    made = Site(process, port, tmp_path / "log")
    try:
        until(made.answers, within_s=60)
        yield made
    finally:
        process.kill()
        process.wait()


def ended(processes: list[psutil.Process]) -> bool:
    return all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in processes)


def test_one_that_is_killed_is_replaced_and_the_others_answer_meanwhile(site: Site) -> None:
    until(lambda: len(site.workers()) == 2)
    killed, other = site.workers()
    killed.kill()
    assert site.answers()
    until(lambda: len(site.workers()) == 2 and killed not in site.workers())
    assert other in site.workers()
    assert f"web worker {killed.pid} ended (-9) and is replaced" in site.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_they_end_with_the_first_and_leave_the_port(site: Site, number: signal.Signals) -> None:
    workers = site.workers()
    site.process.send_signal(number)
    assert site.process.wait(60) == (-9 if number is signal.SIGKILL else 0)
    until(lambda: ended(workers))
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", site.port))
