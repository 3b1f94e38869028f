"""Nobody else can listen on the site's port while it restarts, and so get the passwords and tokens of its clients."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fleet.config import ports
from fleet.config.home import Home
from fleet.services import process_table
from fleet.services.supervision.service import AlertLimits
from tests.support.paths import CHECKOUT


def test_the_supervisor_keeps_the_port_and_passes_it_to_each_process_of_the_site(tmp_path: Path) -> None:
    home, said = Home(tmp_path / ".fleet"), list[str]()
    home.create_folders()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        services = process_table.table(base=CHECKOUT, home=home, limits=AlertLimits(), web_port=taken, say=said.append)
        command = next(service.command for service in services if service.name == "web")
        assert command is not None
        first = command()
    port = ports.recorded(home)["web"]
    assert said == [f"web: port {taken} is in use, using {port}"]
    for _ in range(2):
        with socket.socket() as squatter:
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                squatter.bind(("127.0.0.1", port))
        socket.create_connection(("127.0.0.1", port), timeout=5).close()  # a client waits instead of being refused
        assert command().inherited == first.inherited
