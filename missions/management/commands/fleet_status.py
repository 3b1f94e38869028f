"""`manage.py fleet_status`: the fleet at a glance."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.db.models import Count, Min, Q

from agents.models import Agent, AgentType, Node
from fleet import humanise, services
from fleet.console import invocation, lines, repeating
from fleet.management.operator import OperatorCommand
from fleet.postgres import clock
from fleet.services import detached, statuses
from fleet.services.outages import postgres_unavailable
from missions.control import alerts
from missions.models import Mission, Schedule, Sortie


class Command(OperatorCommand):
    help = "Show services, nodes, agents, queues, missions, schedules and addresses."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.add_argument("--watch", **repeating.ARGUMENT)

    def act(self, **options: Any) -> int:
        return self.show_repeatedly(lambda: self._show_status(options), every_s=options["watch"])

    def _show_status(self, options: dict[str, Any]) -> int:
        state = detached.state(settings.FLEET_HOME)
        status: dict[str, Any] = {
            "running": state["running"],
            "services": state.get("services", []),
            "left": state.get("left", []),
            "urls": services.addresses(),
        }
        try:
            status |= _fleet()
        except Error as error:
            connection.close()
            status |= {
                "nodes": [],
                "cordoned": [],
                "agents": {},
                "missions": {},
                "queues": [],
                "schedules": {},
                "alerts": [],
                "error": postgres_unavailable(error).message if status["left"] else str(postgres_unavailable(error)),
            }
        if options["json"]:
            self.show(status, one_line=options["watch"] is not None)
        else:
            self._print(status)
        return 1 if "error" in status else 0

    def _print(self, status: dict[str, Any]) -> None:
        width = lines.columns(self.stdout)

        def write(text: str) -> None:
            self.stdout.write(lines.fitted(text, width=width, indent=10))

        if leftovers := status["left"]:
            write(f"{statuses.describe_orphans(leftovers)} Stop them first: {invocation.command('fleet_down')}")
        elif status["running"]:
            write("The fleet is running.")
        elif "error" not in status:
            write("The fleet is not running here, but its database answers.")
        for service in status["services"]:
            write(f"  {service['name']:<10} {service['state']}")
        if "error" in status:
            write(status["error"])
            return
        write("Missions  " + (", ".join(f"{n} {state}" for state, n in status["missions"].items()) or "none yet"))
        cordoned = dict.fromkeys(status["cordoned"], " (cordoned)")
        write("Nodes     " + (", ".join(name + cordoned.get(name, "") for name in status["nodes"]) or "none"))
        write("Agents    " + (", ".join(f"{n} {state}" for state, n in status["agents"].items()) or "none"))
        if schedules := status["schedules"]:
            write(f"Schedules {_schedules_in_words(schedules)}")
        for alert in status["alerts"]:
            write(f"Alert     {alert['message']}")
        for queue in status["queues"]:
            if queue["depth"]:
                write(
                    f"  {queue['type']:<14} {queue['depth']} queued, the oldest for {humanise.duration(queue['oldest_wait_s'])}"
                )
        for name, url in status["urls"].items():
            write(f"{name:<9} {url}")


def _fleet() -> dict[str, Any]:
    now = clock.now()
    queued = {
        row["agent_type"]: row
        for row in Sortie.objects.filter(state="queued")
        .order_by()
        .values("agent_type")
        .annotate(n=Count("id"), oldest=Min("ready_at"))
    }
    return {
        "alerts": alerts.active(),
        "schedules": _schedules(now),
        "nodes": list(Node.objects.filter(up=True).values_list("name", flat=True)),
        "cordoned": list(Node.objects.filter(up=True, cordoned=True).values_list("name", flat=True)),
        "agents": _by_state(Agent.objects.filter(state__in=Agent.LIVE)),
        "missions": _by_state(Mission.objects.all()),
        "queues": [
            {
                "type": name,
                "depth": queued[name]["n"] if name in queued else 0,
                "oldest_wait_s": round((now - queued[name]["oldest"]).total_seconds(), 1)
                if name in queued and queued[name]["oldest"]
                else 0.0,
            }
            for name in AgentType.objects.values_list("name", flat=True)
        ],
    }


def _schedules(now: datetime) -> dict[str, Any]:
    """The numbers of schedules and of paused ones, and when the next one is due. Empty if there are no schedules."""
    counts = Schedule.objects.aggregate(number=Count("id"), paused=Count("id", filter=Q(paused=True)))
    if not counts["number"]:
        return {}
    next_schedule = Schedule.objects.filter(paused=False, next_at__isnull=False).order_by("next_at").first()
    return {
        **counts,
        "next": next_schedule.name if next_schedule else None,
        "next_in_s": max(0.0, (next_schedule.next_at - now).total_seconds())
        if next_schedule and next_schedule.next_at
        else None,
    }


def _schedules_in_words(schedules: dict[str, Any]) -> str:
    text = str(schedules["number"])
    if schedules["paused"]:
        text += f" ({schedules['paused']} paused)"
    if schedules["next"] is not None:
        text += f", next {schedules['next']} in {humanise.duration(schedules['next_in_s'])}"
    return text


def _by_state(rows: Any) -> dict[str, int]:
    return dict(rows.order_by("state").values_list("state").annotate(n=Count("id")))
