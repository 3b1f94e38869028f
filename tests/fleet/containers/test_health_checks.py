"""The health check of each container passes while its process works, and says why it does not."""

from __future__ import annotations

import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fleet.config.home import Home
from fleet.containers import health_check
from fleet.flower import client as flower
from fleet.services.supervision import beats


def check(role: str, home: Home) -> tuple[int, str]:
    """Run the health check as a container engine does."""
    variables = {"FLEET_PRIVATE": str(home.private)} if home.private_override else {}
    result = subprocess.run(
        [sys.executable, "-IS", health_check.__file__, role], env={"FLEET_HOME": str(home.root), **variables},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    return result.returncode, result.stderr


@pytest.fixture(params=["in the home", "elsewhere"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home with the private folder in its usual place, and one with it where FLEET_PRIVATE says."""
    new_home = Home(tmp_path / "home", private_override=tmp_path / "private" if request.param == "elsewhere" else None)
    new_home.create_folders()
    return new_home


def test_its_constants_match_those_of_the_fleet() -> None:
    assert health_check.SILENT_S == beats.SILENT_S
    assert (flower.SOCKET, f"/{flower.PREFIX}/healthcheck") == (health_check.FLOWER_SOCKET, health_check.FLOWER_PATH)


@pytest.mark.parametrize("role", ["control", "node"])
def test_a_loop_is_healthy_while_its_beat_is_recent(home: Home, role: str) -> None:
    code, why = check(role, home)
    assert (code, "FileNotFoundError" in why) == (1, True)
    beats.beat(home, f"fleet_{role}")
    assert check(role, home) == (0, "")
    last_beat = time.time() - beats.SILENT_S - 5
    os.utime(home.run / f"fleet_{role}.beat", (last_beat, last_beat))
    code, why = check(role, home)
    assert (code, "no heartbeat for 3" in why) == (1, True)


class Answers(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == health_check.FLOWER_PATH else 500)
        self.end_headers()

    def address_string(self) -> str:
        return "somebody"

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def server(path: Path) -> Iterator[None]:
    with socketserver.UnixStreamServer(str(path), Answers) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown()
            thread.join()


def test_flower_is_healthy_while_it_answers_on_its_socket(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("flower", home)[0] == 1
    with server(home.run / flower.SOCKET):
        assert check("flower", home) == (0, "")
        monkeypatch.setattr(Answers, "status", 503)
        assert check("flower", home) == (1, "status 503\n")


def test_the_site_is_unhealthy_if_nothing_listens(home: Home) -> None:
    with socket.socket() as occupied:
        occupied.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            occupied.bind(("127.0.0.1", health_check.WEB_PORT))  # so that no other process listens there
        except OSError:
            pytest.skip(f"port {health_check.WEB_PORT} is in use on this host")
        code, why = check("web", home)
    assert (code, "refused" in why) == (1, True)


def test_an_unknown_role_is_unhealthy(home: Home) -> None:
    assert check("nodes", home) == (1, "no role 'nodes'\n")
