"""`manage.py fleet_services up|down|restart|status|logs`: Postgres and Valkey, and what else the supervisor keeps."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from fleet import errors
from fleet.console import arguments
from fleet.management.operator import OperatorCommand
from fleet.services import adoption, composition, control, detached, logfiles, statuses


class Command(OperatorCommand):
    help = "Start, stop, restart, show and follow the services that a fleet stands on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        up = actions.add_parser("up", help="start Postgres and Valkey and keep them, in the foreground")
        up.add_argument("--detach", action="store_true", help="in the background; returns once they are ready")
        down = actions.add_parser("down", help="stop what runs, a whole fleet too, and wait until it is gone")
        restart = actions.add_parser("restart", help="stop and start one service, or all, and wait until it is ready")
        restarted = restart.add_argument("name", nargs="?", help="one of those that `status` shows")
        status = actions.add_parser("status", help="health, uptime, response time, memory, restarts, last events")
        shown = status.add_argument("name", nargs="?", help="one of them alone")
        logs = actions.add_parser("logs", help="print, and with -f follow, the logs")
        logged = logs.add_argument("name", nargs="?", help="one of those that `status` shows; all where none is named")
        for name in (restarted, shown, logged):
            name.completer = _kept  # type: ignore[attr-defined]  # argcomplete's
        logs.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
        logs.add_argument(
            "-n", "--lines", type=arguments.count, default=50, help="how many of the last lines first (50)"
        )
        for one in (up, down, restart, status):
            one.add_argument("--json", action="store_true", help="one JSON document on standard output")
        logs.add_argument("--json", action="store_true", help="one JSON object a line: {service, line}")

    def act(self, **options: Any) -> int:
        match options["action"]:
            case "up":
                return self._up(detach=options["detach"], as_json=options["json"])
            case "down":
                stopped = detached.stop(settings.FLEET_HOME, say=self.say)
                self.say("Stopped." if stopped else "Nothing was running.")
                if options["json"]:
                    self.show({"stopped": stopped})
            case "restart":
                return self._restart(options["name"], as_json=options["json"])
            case "status":
                return self._status(options["name"], as_json=options["json"])
            case "logs":
                self._logs(options["name"], follow=options["follow"], lines=options["lines"], as_json=options["json"])
        return 0

    def _up(self, *, detach: bool, as_json: bool) -> int:
        if detached.running(settings.FLEET_HOME) is not None:
            self.say("They run already.")
            detached.wait_until_ready(settings.FLEET_HOME)
            return self._status(as_json=as_json)
        if not detach:
            supervisor = composition.services(self.say)

            async def wait() -> int:
                supervisor.say("Ready. Ctrl-C stops them.")
                if as_json:
                    self.show(supervisor.status())
                return await supervisor.wait()

            adoption.begin()
            return asyncio.run(supervisor.run(wait))
        status = detached.start(
            settings.FLEET_HOME, base=settings.BASE_DIR, arguments=("fleet_services", "up"), say=self.say
        )
        if as_json:
            self.show(status)
        return 0

    def _restart(self, name: str | None, *, as_json: bool) -> int:
        before = control.ask(settings.FLEET_HOME, {"do": "status"})
        ours = [service["name"] for service in before["services"] if service["log"] and service["state"] != "done"]
        for one in [name] if name else ours:
            control.ask(settings.FLEET_HOME, {"do": "restart", "name": one}, seconds=150)
            self.say(f"{one}: restarted")
        return self._status(as_json=True) if as_json else 0

    def _status(self, name: str | None = None, *, as_json: bool) -> int:
        status = detached.state(settings.FLEET_HOME)
        if not status["running"] and not status["left"] and settings.FLEET_ENDPOINTS.provider == "external":
            status = asyncio.run(statuses.of_external(composition.provider()))
        if name and status["running"]:
            status = statuses.of_one(status, name)
        if as_json:
            self.show(status)
        else:
            self.stdout.write(statuses.text(status))
        return 0 if status["running"] and all(service["healthy"] for service in status["services"]) else 1

    def _logs(self, name: str | None, *, follow: bool, lines: int, as_json: bool) -> None:
        home = settings.FLEET_HOME
        places = logfiles.ends(home)
        if not places and not name:
            raise errors.NotFound("There are no logs yet.", hint="`fleet_up` starts a fleet.")

        def show(one: str, line: str) -> None:
            text = json.dumps({"service": one, "line": line}) if as_json else line if name else f"{one} | {line}"
            self.stdout.write(text)

        for one in [name] if name else places:
            for line in logfiles.tail(home, one, lines=lines, end=places.get(one)):
                show(one, line)
        if follow:
            self.stdout.flush()
            for one, line in logfiles.follow(home, [name] if name else [], places=places):
                show(one, line)
                self.stdout.flush()


def _kept(prefix: str = "", **_: Any) -> list[str]:
    """For the Tab key: what the supervisor keeps; of one that does not run, what it has kept."""
    running = detached.state(settings.FLEET_HOME).get("services", [])
    known = [service["name"] for service in running] or logfiles.names(settings.FLEET_HOME)
    return [name for name in known if name.startswith(prefix)]
