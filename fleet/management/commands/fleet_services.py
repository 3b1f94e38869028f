"""`manage.py fleet_services up|down|restart|status|logs|upgrade`: Postgres, Valkey and the fleet's other services."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings

from fleet import errors
from fleet.backup import upgrading
from fleet.console import arguments, invocation
from fleet.host import processes
from fleet.management.operator import OperatorCommand
from fleet.services import composition, detached, logfiles, statuses
from fleet.services.supervision import control_socket, lock


class Command(OperatorCommand):
    help = "Start, stop and restart the services that a fleet needs, and show their state and logs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        up = actions.add_parser("up", help="start Postgres and Valkey and keep them running")
        up.add_argument("--detach", action="store_true", help="start in the background; return when they are ready")
        down = actions.add_parser("down", help="stop the services (or the whole fleet, if one is running)")
        restart = actions.add_parser("restart", help="restart one service, or all of them")
        restart_name = restart.add_argument("name", nargs="?", help="a service that `status` shows; all by default")
        status = actions.add_parser(
            "status", help="show health, uptime, response time, memory, restarts and recent events"
        )
        status_name = status.add_argument("name", nargs="?", help="only this service")
        logs = actions.add_parser("logs", help="show the logs, merged by time")
        logs_name = logs.add_argument("name", nargs="?", help="only this service's log")
        upgrade = actions.add_parser(
            "upgrade", help="convert the data of the embedded Postgres to the installed major version"
        )
        upgrade.add_argument(
            "--programs",
            type=Path,
            metavar="FOLDER",
            help="the bin folder of the old version (default: search for it)",
        )
        for argument in (restart_name, status_name, logs_name):
            argument.completer = _service_names  # type: ignore[attr-defined]  # argcomplete's
        logs.add_argument("-f", "--follow", action="store_true", help="keep showing new lines")
        logs.add_argument(
            "-n",
            "--lines",
            type=arguments.count,
            default=50,
            help="show the last LINES lines of all logs together (default: 50)",
        )
        for action in (up, down, restart, status, upgrade):
            action.add_argument("--json", action="store_true", help="print one JSON document")
        logs.add_argument("--json", action="store_true", help="print one JSON object per line: {service, line}")

    def act(self, **options: Any) -> int:
        match options["action"]:
            case "up":
                return self._up(detach=options["detach"], as_json=options["json"])
            case "down":
                stopped = detached.stop(settings.FLEET_HOME, say=self.say)
                self.say("Stopped." if stopped else "Nothing was running here.")
                if options["json"]:
                    self.show({"stopped": stopped})
            case "restart":
                return self._restart(options["name"], as_json=options["json"])
            case "status":
                return self._status(options["name"], as_json=options["json"])
            case "upgrade":
                self._upgrade(options["programs"], as_json=options["json"])
            case "logs":
                self._logs(options["name"], follow=options["follow"], lines=options["lines"], as_json=options["json"])
        return 0

    def _up(self, *, detach: bool, as_json: bool) -> int:
        home = settings.FLEET_HOME
        while (running := detached.running_status(home)) is None:
            if detach:
                status = detached.start(
                    home, base=settings.BASE_DIR, argv=invocation.program("fleet_services", "up"), say=self.say
                )
                if status is not None:
                    if as_json:
                        self.show(status)
                    return 0
            else:
                with suppress(lock.AlreadyRunning):  # another command has started it in this moment
                    return self._run_services(as_json=as_json)
        if running["ready"]:
            self.say("The services are already running.")
        else:
            self.say("The services are already starting. Waiting until they are ready.")
            detached.wait_until_ready(home, say=self.say)
        return self._status(as_json=as_json)

    def _run_services(self, *, as_json: bool) -> int:
        supervisor = composition.services(self.say)

        async def wait() -> int:
            supervisor.say("The services are ready. Ctrl-C stops them.")
            if as_json:
                self.show(supervisor.status())
            return await supervisor.wait()

        processes.become_subreaper()
        return asyncio.run(supervisor.run(wait))

    def _restart(self, name: str | None, *, as_json: bool) -> int:
        before = control_socket.send_request(settings.FLEET_HOME, {"do": "status"})
        running = [service["name"] for service in before["services"] if service["log"] and service["state"] != "done"]
        for service in [name] if name else running:
            control_socket.send_request(settings.FLEET_HOME, {"do": "restart", "name": service}, seconds=150)
            self.say(f"{service}: restarted")
        return self._status(as_json=True) if as_json else 0

    def _upgrade(self, programs: Path | None, *, as_json: bool) -> None:
        if settings.FLEET_ENDPOINTS.provider != "embedded":
            raise errors.Conflict("This fleet has no embedded Postgres. See docs/upgrade.md.")
        upgraded = upgrading.upgrade(
            home=settings.FLEET_HOME, credentials=settings.FLEET_CREDENTIALS, bin_folder=programs, say=self.say
        )
        if as_json:
            self.show(None if upgraded is None else {**asdict(upgraded), "kept": str(upgraded.kept)})
        if upgraded is None:
            self.say("The data already has the format of the installed version. There is nothing to do.")
            return
        if not as_json:
            self.stdout.write(f"Converted from Postgres {upgraded.before} to {upgraded.after}: {upgraded.rows:,} rows.")
        for name in upgraded.left:
            self.say(f"The database {name} is not the fleet's and was left in the old data.")
        self.say(f"The old data is in {upgraded.kept}. Remove it once the fleet works as it should.")
        self.say(f"Start the fleet: {invocation.command('fleet_up', '--detach')}")

    def _status(self, name: str | None = None, *, as_json: bool) -> int:
        status = detached.state(settings.FLEET_HOME)
        if not status["running"] and not status["left"] and settings.FLEET_ENDPOINTS.provider == "external":
            status = asyncio.run(statuses.external_status(composition.provider(self.say)))
        if name and status["running"]:
            status = statuses.only_service(status, name)
        if as_json:
            self.show(status)
        else:
            self.stdout.write(statuses.text(status))
        return 0 if status["running"] and all(service["healthy"] for service in status["services"]) else 1

    def _logs(self, name: str | None, *, follow: bool, lines: int, as_json: bool) -> None:
        home = settings.FLEET_HOME
        ends = logfiles.ends(home)
        if not ends and not name:
            raise errors.NotFound(
                "There are no logs yet.", hint=f"Start a fleet: {invocation.command('fleet_up', '--detach')}"
            )

        def show(service: str, line: str) -> None:
            prefixed = line if name else f"{service} | {line}"
            self.stdout.write(json.dumps({"service": service, "line": line}) if as_json else prefixed)

        last_lines = logfiles.last_lines(home, [name] if name else list(ends), lines=lines, ends=ends)
        for service, line in last_lines:
            show(service, line)
        if not last_lines and lines and not as_json:
            self.say(f"{name} has logged nothing." if name else "Nothing has been logged.")
        if follow:
            self.stdout.flush()
            for service, line in logfiles.follow(home, [name] if name else [], offsets=ends):
                show(service, line)
                self.stdout.flush()


def _service_names(prefix: str = "", **_: Any) -> list[str]:
    """Complete the services of the running supervisor; if none runs, the services that have logs."""
    running = detached.state(settings.FLEET_HOME).get("services", [])
    names = [service["name"] for service in running] or logfiles.names(settings.FLEET_HOME)
    return [name for name in names if name.startswith(prefix)]
