"""The site is healthy only once it listens itself: another fleet may have taken its port and answer instead."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fleet import errors
from fleet.config import ports
from fleet.config.home import Home
from fleet.services import process_table
from fleet.services.supervision.service import AlertLimits, Service
from tests.support.paths import CHECKOUT

LIMITS = AlertLimits(response_s=None, memory_bytes=None, restarts=None)


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


@contextmanager
def another_fleet(port: int) -> Iterator[None]:
    """A server that answers on this port."""
    with ThreadingHTTPServer(("127.0.0.1", port), Healthy) as server:
        threading.Thread(target=server.serve_forever).start()
        yield
        server.shutdown()


def probe(service: Service) -> None:
    probe_site = service.probe
    assert probe_site is not None

    async def run() -> None:
        await probe_site()

    asyncio.run(run())


def test_the_answer_of_another_fleet_does_not_count(tmp_path: Path) -> None:
    home = Home(tmp_path / ".fleet")
    home.create_folders()
    port = ports.find_free()
    services = process_table.table(base=CHECKOUT, home=home, limits=LIMITS, web_port=port, say=lambda line: None)
    (site,) = [service for service in services if service.name == "web"]
    ports.announce(home, "web", port)  # by an earlier process
    assert site.command is not None
    site.command()
    with another_fleet(port):
        with pytest.raises(errors.Unavailable, match="does not listen yet"):
            probe(site)
        ports.announce(home, "web", port)
        probe(site)
