"""Alerts: conditions that operators should look at now, checked by the control loop every few seconds.

An alert is a row while it lasts. The event `alert.raised` is written when it begins, and `alert.cleared` when no check
has found it for FLEET_ALERT_QUIET_S: one event each, however many control loops run. Each threshold is a setting, and 0
turns its rule off. docs/monitoring.md explains the rules.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Min
from django.db.models.functions import Extract, Now

from agents import queries as agents
from agents.models import AgentType
from fleet import humanise, ids
from fleet.audit import protection, sealing
from fleet.console import invocation
from fleet.monitoring import metrics
from fleet.postgres import statements
from missions.control import scaling
from missions.engine.output.writer import ACTIVITY_S
from missions.models import Alert, CounterMark, Schedule, Sortie
from missions.queries import counters

log = logging.getLogger("fleet.alerts")

CHECK_S = 10.0
RULES = (
    "queue_old", "unserved", "agents_lost", "agents_failing", "retries_high", "mission_stalled", "silent",
    "service_slow", "service_large", "service_restarting", "service_failed", "audit_unsealed", "audit_unprotected",
    "schedule_failing",
)  # fmt: skip
MIN_ATTEMPTS = 20  # below this, the share of retries is not meaningful
MAX_SCHEDULES = 100  # to report
MAX_SILENT = 100  # attempts to report: those that have been silent the longest
RECORD_S = 30.0  # between two records of the totals, from which windows are measured
DOWN = {"failed", "unhealthy", "pausing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFinding:
    """One violation of an alert rule."""

    rule: str
    subject: str
    message: str
    about: UUID | None = None  # the mission


class AlertMonitor:
    """Checks the rules for one control loop.

    It remembers which services were slow at the last check, and how many agents were lost before the loop had been up
    for `startup_s`: these ended while the fleet was down, or come from a backup. Default: two leases, by which time no
    heartbeat from before the start is left to expire.
    """

    def __init__(self, *, startup_s: float | None = None) -> None:
        self._slow: set[str] = set()
        self._last_check = 0.0
        self._started_at = time.monotonic()
        self._startup_s = 2 * settings.FLEET_LEASE_S if startup_s is None else startup_s
        self._lost_at_startup = 0

    def check_when_due(self) -> None:
        if time.monotonic() - self._last_check >= CHECK_S:
            self._last_check = time.monotonic()
            self.check()

    def check(self) -> None:
        """Update the totals, check every rule, raise and clear alerts. Does nothing while another loop is doing so."""
        counters.fold()
        services = [*self._services()]
        with transaction.atomic(), connection.cursor() as cursor:
            mark = counters.lock_mark()
            if mark is None:
                return
            served = agents.served_types()
            findings = [
                *_queues(served),
                *_unserved(served),
                *_failing(),
                *_windows(self._counts_in_window(mark)),
                *_stalled(),
                *_silent(),
                *_audit_trail(),
                *_schedules(),
                *services,
            ]
            cursor.execute(
                statements.read("missions.control", "alert_raise"),
                {"findings": json.dumps([_as_row(finding) for finding in findings])},
            )
            raised_now = [message for (message,) in cursor.fetchall()]
            cursor.execute(statements.read("missions.control", "alert_clear"), {"quiet": settings.FLEET_ALERT_QUIET_S})
            cleared_now = [message for (message,) in cursor.fetchall()]
        for message in raised_now:
            log.warning("alert: %s", message)
        for message in cleared_now:
            log.info("cleared: %s", message)

    def _counts_in_window(self, mark: CounterMark) -> dict[str, int]:
        totals = _totals()
        counts = _growth(mark, totals)
        if time.monotonic() - self._started_at < self._startup_s:
            self._lost_at_startup = totals["lost"]
        counts["lost"] = min(counts["lost"], totals["lost"] - self._lost_at_startup)
        return counts

    def _services(self) -> Iterator[AlertFinding]:
        """Findings from this host's supervisor; none if this host has no supervisor."""
        slow_before, self._slow = self._slow, set()
        host = settings.FLEET_NODE or socket.gethostname()
        for service in metrics.services():
            name, response_s = service["name"], (service["response_ms"] or 0) / 1000
            subject = f"{name}@{host}"
            if 0 < settings.FLEET_ALERT_RESPONSE_S < response_s:
                self._slow.add(name)
                if name in slow_before:  # two checks in a row, so that one slow response raises no alert
                    yield AlertFinding(
                        rule="service_slow",
                        subject=subject,
                        message=f"{name} takes {humanise.duration(response_s)} to respond.",
                    )
            if 0 < settings.FLEET_ALERT_MEMORY_MB * 1e6 < (service["memory_bytes"] or 0):
                message = f"{name} uses {service['memory_bytes'] / 1e6:,.0f} MB of memory."
                yield AlertFinding(rule="service_large", subject=subject, message=message)
            if service["state"] in DOWN:
                message = f"{name} is {service['state']}: {service['error'] or 'see its log'}"
                yield AlertFinding(rule="service_failed", subject=subject, message=message)


def active() -> list[dict[str, Any]]:
    """The active alerts, the oldest first: `{rule, subject, message, raised_at}`."""
    return [
        {
            "rule": alert.rule,
            "subject": alert.subject,
            "message": invocation.respell(alert.message),
            "raised_at": alert.raised_at.isoformat(),
        }
        for alert in Alert.objects.all()
    ]


def _queues(served: frozenset[str]) -> Iterator[AlertFinding]:
    if not settings.FLEET_ALERT_QUEUE_S:
        return
    queued = Sortie.objects.filter(state="queued", agent_type__in=served).order_by().values_list("agent_type")
    for type, waited_s in queued.annotate(waited=Extract(Now() - Min("ready_at"), "epoch")):
        if waited_s and waited_s > settings.FLEET_ALERT_QUEUE_S:
            yield AlertFinding(
                rule="queue_old",
                subject=type,
                message=f"A sortie of type {type} has waited {humanise.duration(waited_s)} for an agent. "
                f"Start another: {invocation.command('fleet_agents', 'spawn', type)}",
            )


def _unserved(served: frozenset[str]) -> Iterator[AlertFinding]:
    """Types with waiting work that no agent takes."""
    if not settings.FLEET_ALERT_UNSERVED_S:
        return
    types = dict(AgentType.objects.exclude(name__in=served).values_list("name", "external"))
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.control", "alert_unserved"),
            {"types": list(types), "after": settings.FLEET_ALERT_UNSERVED_S},
        )
        rows = cursor.fetchall()
    for type, count in rows:
        waiting = "1 sortie waits" if count == 1 else f"{count:,} sorties wait"
        start = f"Start one: {invocation.command('fleet_agents', 'spawn', type)}"
        remedy = "External agents serve it: register one." if types[type] else start
        yield AlertFinding(
            rule="unserved",
            subject=type,
            message=f"{waiting} for agents of type {type}, and none is taking work. {remedy}",
        )


def _failing() -> Iterator[AlertFinding]:
    """Types whose agents die after the autoscaler starts them."""
    for decision in scaling.decisions():
        if decision.on and decision.failing:
            yield AlertFinding(
                rule="agents_failing",
                subject=decision.type,
                message=f"Agents of type {decision.type} die after the autoscaler starts them: {decision.why}",
            )


def _windows(counts: dict[str, int]) -> Iterator[AlertFinding]:
    """Events that occurred too often within FLEET_ALERT_WINDOW_S."""
    window = humanise.duration(settings.FLEET_ALERT_WINDOW_S)
    lost_agents = counts["lost"]
    if 0 < settings.FLEET_ALERT_AGENTS_LOST < lost_agents:
        yield AlertFinding(
            rule="agents_lost",
            subject="agents",
            message=f"{lost_agents} agents were lost within {window}. See: {invocation.command('fleet_agents', 'list', '--all')}",
        )
    retries, attempts = counts["retries"], counts["attempts"]
    if attempts >= MIN_ATTEMPTS and 0 < settings.FLEET_ALERT_RETRY_SHARE < retries / attempts:
        yield AlertFinding(
            rule="retries_high",
            subject="attempts",
            message=f"{retries} of {attempts} attempts within {window} failed and are retried.",
        )
    for name, count in counts.items():
        if name.startswith("restarts ") and 0 < settings.FLEET_ALERT_RESTARTS < count:
            service = name.removeprefix("restarts ")
            yield AlertFinding(
                rule="service_restarting",
                subject=service,
                message=f"{service} was restarted {count} times within {window}. "
                f"See: {invocation.command('fleet_services', 'logs', service)}",
            )


def _growth(mark: CounterMark, current: dict[str, int]) -> dict[str, int]:
    """The growth of the totals within the window. Records the totals from time to time, if they have changed."""
    now = time.time()
    past: list[tuple[float, dict[str, int]]] = [(at, dict(sums)) for at, sums in mark.past]
    if not past or (past[-1][1] != current and abs(now - past[-1][0]) >= RECORD_S):
        past.append((now, current))
        window_start = now - settings.FLEET_ALERT_WINDOW_S
        while len(past) > 1 and past[1][0] <= window_start:
            del past[0]
        CounterMark.objects.filter(id=mark.id).update(past=past)
    before = [sums for at, sums in past if at <= now - settings.FLEET_ALERT_WINDOW_S]
    base = before[-1] if before else past[0][1]
    return {name: count - base.get(name, 0) for name, count in current.items()}


def _totals() -> dict[str, int]:
    sums: dict[str, int] = {"lost": 0, "retries": 0, "attempts": 0}
    for (series, subject, outcome), total in counters.totals().items():
        match series, outcome:
            case "agents", "lost":
                sums["lost"] += total.number
            case "retries", _:
                sums["retries"] += total.number
            case "attempts", "succeeded" | "failed":
                sums["attempts"] += total.number
            case "restarts", _:
                sums[f"restarts {subject}"] = total.number
    return sums


def _stalled() -> Iterator[AlertFinding]:
    if not settings.FLEET_ALERT_STALLED_S:
        return
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "alert_stalled"), {"after": settings.FLEET_ALERT_STALLED_S})
        rows = cursor.fetchall()
    for mission, name, quiet_s, states in rows:
        ref = ids.encode(ids.MISSION, mission)
        yield AlertFinding(
            rule="mission_stalled",
            subject=ref,
            message=f"Mission {name[:100]!r} has made no progress for {humanise.duration(quiet_s)} "
            f"({states or 'no sorties left'}). "
            f"See why it waits: {invocation.command('fleet_mission', 'show', ref)}",
            about=mission,
        )


def _silent() -> Iterator[AlertFinding]:
    """Running attempts that have printed nothing for longer than their plan, their type or the setting allows."""
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.control", "alert_silent"),
            {"after": settings.FLEET_ALERT_SILENCE_S, "recorded_every": ACTIVITY_S, "limit": MAX_SILENT},
        )
        rows = cursor.fetchall()
    for sortie, key, mission, name, quiet_s in rows:
        ref = ids.encode(ids.MISSION, mission)
        yield AlertFinding(
            rule="silent",
            subject=ids.encode(ids.SORTIE, sortie),
            message=f"No output from {key[:80]!r} of {name[:80]!r} for {humanise.duration(quiet_s)}; it keeps "
            f"running. See its log: {invocation.command('fleet_mission', 'logs', ref, key)}. To stop such attempts, set "
            "`silence` in the plan.",
            about=mission,
        )


def _audit_trail() -> Iterator[AlertFinding]:
    if settings.FLEET_ALERT_UNSEALED_S and (blocker := sealing.blocker(longer_than_s=settings.FLEET_ALERT_UNSEALED_S)):
        yield AlertFinding(rule="audit_unsealed", subject="audit trail", message=str(blocker))
    if (gaps := protection.gaps()) and protection.is_required():
        yield AlertFinding(
            rule="audit_unprotected",
            subject="audit trail",
            message=f"The application can change the audit trail: {gaps[0]}. {protection.remedy()}",
        )


def _schedules() -> Iterator[AlertFinding]:
    """Schedules whose launches have failed several times in a row."""
    if not settings.FLEET_ALERT_SCHEDULE_FAILURES:
        return
    failing = Schedule.objects.filter(paused=False, failures_in_a_row__gte=settings.FLEET_ALERT_SCHEDULE_FAILURES)
    for schedule in failing.order_by("id")[:MAX_SCHEDULES]:
        yield AlertFinding(
            rule="schedule_failing",
            subject=schedule.ref,
            message=f"The last {schedule.failures_in_a_row} launches of the schedule {schedule.name!r} failed. "
            f"See why: {invocation.command('fleet_schedule', 'show', schedule.ref)}",
        )


def _as_row(finding: AlertFinding) -> dict[str, str | None]:
    return {
        "rule": finding.rule,
        "subject": finding.subject[:100],
        "message": finding.message[:500],
        "about": str(finding.about) if finding.about else None,
    }
