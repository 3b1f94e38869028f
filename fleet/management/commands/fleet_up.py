"""`manage.py fleet_up`: starts a whole fleet on this host."""

from __future__ import annotations

import asyncio
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command

from fleet import checks, errors, services
from fleet.config import credentials
from fleet.console import invocation
from fleet.host import processes
from fleet.management.operator import OperatorCommand
from fleet.services import announcements, composition, detached, foreground
from fleet.services.supervision import lock

PAGES = (".html", ".htm", ".xhtml", ".svg")  # a browser runs scripts in these
WAIT = ("fleet_mission", "wait")
STOPPED = 128  # exit codes from here on mean that a signal stopped the command, such as by Ctrl-C


class Command(OperatorCommand):
    requires_system_checks = [checks.TAG]
    help = (
        "Start Postgres, Valkey, the control loop, the web process, Flower and a node with its agents, and keep them "
        "running.\n\n"
        "With --run: run one mission, wait for other missions that were launched during it, and stop the fleet. "
        "The exit code is the mission's."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument(
            "--detach", action="store_true", help="start in the background; return when the fleet is ready"
        )
        mode.add_argument("--run", metavar="PLAN", help="run this plan in the foreground, then stop the fleet")
        parser.add_argument(
            "--param", action="append", default=[], metavar="NAME=VALUE", help="an input of the plan; may be repeated"
        )
        parser.add_argument("--json", action="store_true", help="with --detach: print the status as one JSON document")

    def act(self, **options: Any) -> int:
        if not options["run"]:
            if options["param"]:
                raise errors.Invalid("--param needs a plan.", hint="Name the plan with --run PLAN.")
            return self._act(None, options)
        with tempfile.TemporaryDirectory(prefix="fleet-up-") as folder:
            saved = Path(folder) / "saved-files"
            code = self._act(_mission(options["run"], options["param"], saved=saved), options)
            self._show_report(saved)
        return code

    def _act(self, mission: list[str] | None, options: dict[str, Any]) -> int:
        if mission is not None and options["run"] != "-":  # standard input can be read only once
            call_command(*mission, "--dry-run")
        home = settings.FLEET_HOME
        while (running := detached.running_status(home)) is None:
            if options["detach"]:
                status = detached.start(home, base=settings.BASE_DIR, argv=invocation.program("fleet_up"), say=self.say)
                if status is not None:
                    if options["json"]:
                        self.show({**status, "urls": services.addresses()})
                    return 0
            else:
                with suppress(lock.AlreadyRunning):  # another command has started it in this moment
                    return self._run_fleet(mission)
        return self._use_running(running, mission, as_json=options["json"])

    def _run_fleet(self, mission: list[str] | None) -> int:
        supervisor = composition.fleet(self.say)

        async def introduce() -> None:
            self._show_addresses(supervisor.say)
            for line in await asyncio.to_thread(announcements.lines):
                supervisor.say(line)

        async def work() -> int:
            if mission is None:
                return await supervisor.wait()
            code = await foreground.run(mission, until=supervisor.wait)
            if code < STOPPED:  # other missions may have been launched meanwhile
                await foreground.run(WAIT, until=supervisor.wait)
            return code

        processes.become_subreaper()
        code = asyncio.run(supervisor.run(work, introduce=introduce))
        unfinished = mission is not None and code >= STOPPED
        supervisor.say(
            "The fleet is stopped." + (" Unfinished missions continue when it is started again." if unfinished else "")
        )
        return code

    def _use_running(self, status: dict[str, Any], mission: list[str] | None, *, as_json: bool) -> int:
        if status["kind"] != "fleet":
            raise lock.AlreadyRunning(
                "Only Postgres and Valkey are running here, without the fleet.",
                hint="Stop them first; the fleet then starts them with the same data: "
                + invocation.command("fleet_services", "down"),
            )
        if status["ready"]:
            self.say("The fleet is already running.")
        else:
            self.say("The fleet is already starting. Waiting until it is ready.")
            status = detached.wait_until_ready(settings.FLEET_HOME, say=self.say)
        if mission is not None:
            return asyncio.run(foreground.run(mission))
        self._show_addresses(self.say)
        if as_json:
            self.show({**status, "urls": services.addresses()})
        return 0

    def _show_addresses(self, say: Callable[[str], None]) -> None:
        if not settings.FLEET_SANDBOX:
            say(checks.NO_SANDBOX)
        for name, url in services.addresses().items():
            say(f"  {name:<8} {url}")
        say(f"  The password of admin is in {credentials.file(settings.FLEET_HOME)}")
        say(f"  logs     {invocation.command('fleet_services', 'logs', '-f')}")
        say(f"  stop     {invocation.command('fleet_down')}")

    def _show_report(self, saved: Path) -> None:
        """Print where the mission's report is. Not its file:// URL: a browser would run the scripts that a workload put there."""
        files = [Path(line) for line in saved.read_text().splitlines()] if saved.exists() else []
        pages = [file for file in files if file.suffix.lower() in PAGES]
        if report := next(iter(pages or files), None):
            self.say(f"Report: {report.absolute()}")
            if pages:
                self.say("A workload wrote it, with any scripts in it: open it in a browser only if you trust that.")


def _mission(plan: str, parameters: list[str], *, saved: Path) -> list[str]:
    pairs = (part for pair in parameters for part in ("--param", pair))
    return ["fleet_mission", "run", plan, *pairs, "--list-saved", str(saved)]
