"""A server keeps its port, and servers that are prepared concurrently all keep theirs."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from fleet.config import ports
from fleet.config.home import Home


def test_concurrent_choices_of_ports_are_all_recorded(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create_folders()
    names = [f"server-{number}" for number in range(20)]
    together = threading.Barrier(len(names))
    chosen: dict[str, int] = {}

    def choose(name: str) -> None:
        chooser = ports.Ports(home)
        together.wait(20)
        chosen[name] = chooser.choose(name)

    threads = [threading.Thread(target=choose, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ports.recorded(home) == chosen
    assert sorted(chosen) == sorted(names)


def test_a_server_keeps_its_port_unless_another_program_has_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create_folders()
    port = ports.Ports(home).choose("valkey")
    assert ports.Ports(home).choose("valkey") == port
    with socket.create_server(("127.0.0.1", port)):
        assert ports.Ports(home).choose("valkey") != port
