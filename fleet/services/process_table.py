"""The processes that `fleet_up` runs besides Postgres and Valkey: how each is started, probed and stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fleet.config import ports
from fleet.config.home import Home
from fleet.console import invocation
from fleet.flower import client as flower
from fleet.postgres import pool
from fleet.services.providers import probes
from fleet.services.supervision import beats
from fleet.services.supervision.service import JWT_KEY, OWNER, AlertLimits, Command, Service


def table(
    *,
    base: Path,
    home: Home,
    limits: AlertLimits,
    web_port: int,
    say: Callable[[str], None],
) -> tuple[Service, ...]:
    """Return the processes in starting order. `base` is the folder of the code, `web_port` the preferred port."""
    chosen_ports = ports.Ports(home)

    def process(
        *argv: str, env: dict[str, str], privileged: frozenset[str] = frozenset(), inherited: tuple[int, ...] = ()
    ) -> Command:
        shared = {"DJANGO_SETTINGS_MODULE": "fleet.settings", "FLEET_HOME": str(home.root), "PYTHONUNBUFFERED": "1"}
        return Command(argv=argv, cwd=base, env={**shared, **env}, privileged=privileged, inherited=inherited)

    def manage(command: str, *, privileged: frozenset[str] = frozenset()) -> Command:
        beats.clear(home, command)
        hints = {"FLEET_COMMAND": invocation.default_prefix()}
        return process(*invocation.program(command), env=hints, privileged=privileged)

    def prepare() -> Command:
        return manage("fleet_prepare", privileged=OWNER)

    def web() -> Command:
        listener = chosen_ports.listen("web", preferred=web_port)
        if (port := listener.getsockname()[1]) != web_port:
            say(f"web: port {web_port} is in use, using {port}")
        argv = (sys.executable, "-m", "fleet.web", "--listener", str(listener.fileno()))
        inherited = (listener.fileno(),)
        return process(*argv, env={"FLEET_PROCESS": pool.WEB}, privileged=JWT_KEY, inherited=inherited)

    async def probe_web() -> None:
        await probes.http(ports.recorded(home)["web"], "/healthz")

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
            probe=probe_web,
            needs=prepared,
            limits=limits,
        ),
        Service(
            name="flower",
            command=lambda: process(sys.executable, "-m", "fleet.flower", env={}),
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
