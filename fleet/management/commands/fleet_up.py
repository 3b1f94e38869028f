"""`manage.py fleet_up`: a whole fleet on this host, in one command."""

from __future__ import annotations

import asyncio
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import call_command

from fleet import checks, credentials, errors, services
from fleet.management.operator import OperatorCommand
from fleet.services import adoption, composition, detached, foreground, lock

WAIT = ("fleet_mission", "wait")
STOPPED = 128  # exit codes from here on are of a command that was told to stop, as by Ctrl-C


class Command(OperatorCommand):
    requires_system_checks = [checks.TAG]
    help = (
        "Start Postgres, Valkey, the control loop, the web process, Flower and a node with its workers, and keep them. "
        "With --run: fly one mission, wait for others that run by then, and stop; the exit code is the mission's."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--detach", action="store_true", help="in the background; returns once the fleet is ready")
        how.add_argument("--run", metavar="PLAN", help="fly this plan in the foreground, then stop what was started")
        parser.add_argument(
            "--param", action="append", default=[], metavar="NAME=VALUE", help="an input of the plan; may be repeated"
        )
        parser.add_argument("--json", action="store_true", help="with --detach: the status as one JSON document")

    def act(self, **options: Any) -> int:
        mission = _mission(options["run"], options["param"]) if options["run"] else None
        if options["param"] and mission is None:
            raise errors.Invalid("--param belongs to a plan.", hint="Name one with --run PLAN.")
        if mission is not None and options["run"] != "-":  # which can be read only once
            call_command(*mission, "--dry-run")
        if (status := detached.running(settings.FLEET_HOME)) is not None:
            return self._use_running(status, mission, as_json=options["json"])
        if options["detach"]:
            status = detached.start(settings.FLEET_HOME, base=settings.BASE_DIR, arguments=("fleet_up",), say=self.say)
            if options["json"]:
                self.show({**status, "urls": services.addresses()})
            return 0
        return self._keep(mission)

    def _keep(self, mission: list[str] | None) -> int:
        supervisor = composition.fleet(self.say)

        async def work() -> int:
            self._introduce(supervisor.say)
            if mission is None:
                return await supervisor.wait()
            code = await foreground.run(mission, base=settings.BASE_DIR, until=supervisor.wait)
            if code < STOPPED:  # others may have launched missions here meanwhile
                await foreground.run(WAIT, base=settings.BASE_DIR, until=supervisor.wait)
            return code

        adoption.begin()
        code = asyncio.run(supervisor.run(work))
        rest = " What has not ended goes on with its next start." if mission is not None and code >= STOPPED else ""
        supervisor.say(f"The fleet is stopped.{rest}")
        return code

    def _use_running(self, status: dict[str, Any], mission: list[str] | None, *, as_json: bool) -> int:
        if status["kind"] != "fleet":
            raise lock.Held(
                "Only the services run here, kept by `fleet_services up`.",
                hint="Stop them with `fleet_services down`; `fleet_up` starts services of its own on the same data.",
            )
        self.say("The fleet runs already.")
        status = detached.wait_until_ready(settings.FLEET_HOME)
        if mission is not None:
            return asyncio.run(foreground.run(mission, base=settings.BASE_DIR))
        self._introduce(self.say)
        if as_json:
            self.show({**status, "urls": services.addresses()})
        return 0

    def _introduce(self, say: Callable[[str], None]) -> None:
        if not settings.FLEET_SANDBOX:
            say(checks.NO_SANDBOX)
        manage = "python manage.py" if sys.prefix == sys.base_prefix else f"{shlex.quote(sys.executable)} manage.py"
        for name, url in services.addresses().items():
            say(f"  {name:<8} {url}")
        say(f"  The password of admin is in {credentials.file(settings.FLEET_HOME)}")
        say(f"  follow   {manage} fleet_services logs -f")
        say(f"  stop     make down   (or {manage} fleet_down)")


def _mission(plan: str, parameters: list[str]) -> list[str]:
    return ["fleet_mission", "run", plan, *(part for pair in parameters for part in ("--param", pair))]
