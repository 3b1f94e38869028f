"""The processes that `fleet_up` runs besides Postgres and Valkey: how each is started, probed and stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fleet import invocation
from fleet.config.home import Home
from fleet.config.ports import Ports
from fleet.flower import client as flower
from fleet.postgres import pool
from fleet.services.providers import probes
from fleet.services.supervision import beats
from fleet.services.supervision.service import Command, Limits, Service


def table(
    *,
    base: Path,
    home: Home,
    limits: Limits,
    web_port: int,
    say: Callable[[str], None],
) -> tuple[Service, ...]:
    """Return the processes in the order in which they start. `base` is the checkout, `web_port` the preferred port."""
    ports = Ports(home)
    selected_ports: dict[str, int] = {}

    def choose(name: str, preferred: int) -> str:
        selected_ports[name] = ports.choose(name, preferred=preferred)
        if selected_ports[name] != preferred:
            say(f"{name}: port {preferred} is in use, using {selected_ports[name]}")
        return str(selected_ports[name])

    def python(*arguments: str, env: dict[str, str] | None = None, entrusted: frozenset[str] = frozenset()) -> Command:
        shared = {"DJANGO_SETTINGS_MODULE": "fleet.settings", "FLEET_HOME": str(home.root), "PYTHONUNBUFFERED": "1"}
        return Command(argv=(sys.executable, *arguments), cwd=base, env={**shared, **(env or {})}, entrusted=entrusted)

    def manage(command: str, *, entrusted: frozenset[str] = frozenset()) -> Command:
        beats.clear(home, command)
        return python("manage.py", command, env={"FLEET_COMMAND": invocation.IN_THE_CHECKOUT}, entrusted=entrusted)

    def prepare() -> Command:
        return manage("fleet_prepare", entrusted=frozenset({"DATABASE_OWNER_URL"}))

    def web() -> Command:
        command = ("-m", "fleet.web", "--port", choose("web", web_port))
        return python(*command, env={"FLEET_PROCESS": pool.WEB}, entrusted=frozenset({"FLEET_JWT_KEY"}))

    stores = ("postgres", "valkey")  # both, so that nothing is migrated if one of them refuses the connection
    prepared = ("prepare", "valkey")
    return (
        Service(name="prepare", command=prepare, probe=None, needs=stores, once=True),
        Service(
            name="control",
            command=lambda: manage("fleet_control"),
            probe=beats.probe(home, "fleet_control"),
            needs=prepared,
            limits=limits,
        ),
        Service(
            name="web",
            command=web,
            probe=lambda: probes.http(selected_ports["web"], "/healthz"),
            needs=prepared,
            limits=limits,
        ),
        Service(
            name="flower",
            command=lambda: python("-m", "fleet.flower"),
            probe=lambda: probes.http_socket(home, flower.SOCKET, f"/{flower.PREFIX}/healthcheck"),
            needs=prepared,
            vital=False,
            limits=limits,
        ),
        Service(
            name="node",
            command=lambda: manage("fleet_node"),
            probe=beats.probe(home, "fleet_node"),
            needs=prepared,
            grace_s=30,  # its agents finish their sorties or hand them back
            limits=limits,
        ),
    )
