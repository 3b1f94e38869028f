"""`manage.py fleet_node`: the supervisor of this host's agents. `fleet_up` runs it."""

from __future__ import annotations

import logging
import socket
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.conf import settings

from agents.node.supervisor import NodeSupervisor
from fleet import checks
from fleet.management import shutdown
from fleet.management.operator import OperatorCommand
from fleet.observability import logs
from fleet.services.supervision import beats
from missions.engine.attempts import scratch

log = logging.getLogger("fleet.node")


class Command(OperatorCommand):
    acts_as_system = True
    requires_system_checks = [checks.TAG]
    help = "Keep agents of every enabled type running on this host. On SIGTERM or Ctrl-C they drain and end."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", default="", help="this host's name in the fleet (default: its hostname)")

    def act(self, **options: Any) -> int:
        logs.enable_info()
        if settings.FLEET_JWT_KEY:
            log.warning("FLEET_JWT_KEY is set, which agents do not need; unset it on hosts without a web process")
        ending = shutdown.stop_event()
        name = options["name"] or settings.FLEET_NODE or socket.gethostname()
        supervisor = NodeSupervisor(name=name)
        with suppress(OSError):  # the disk may be read-only
            scratch.sweep()
        supervisor.run(ending=ending, alive=lambda: beats.beat(settings.FLEET_HOME, "fleet_node"))
        return 0
