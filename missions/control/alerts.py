"""What operators should look at now: rules that the control loop judges every few seconds.

An alert is a row while it lasts: `alert.raised` is written when it begins and `alert.cleared` when it has not been so for
FLEET_ALERT_QUIET_S, one event each, whatever the number of control loops. Each threshold is a setting; 0 turns its
rule off. docs/monitoring.md explains the rules.
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
from fleet import humanise, ids, invocation
from fleet.audit import protection, sealing
from fleet.monitoring import metrics
from fleet.postgres import statements
from missions.control import scaling
from missions.engine.output import ACTIVITY_S
from missions.models import Alert, Sortie, TallyMark
from missions.queries import counters

log = logging.getLogger("fleet.alerts")

LOOK_S = 10.0
RULES = (
    "queue_old", "unserved", "agents_lost", "agents_failing", "retries_high", "mission_stalled", "silent",
    "service_slow", "service_large", "service_restarting", "service_failed", "audit_unsealed", "audit_unprotected",
)  # fmt: skip
FEWEST_ATTEMPTS = 20  # of which a share of retries says something
MOST_SILENT = 100  # attempts that are named; those that have been silent for longest
NOTED_S = 30.0  # between two notes of the totals that windows are measured by
DOWN = {"failed", "unhealthy", "pausing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is as a rule says that it should not be."""

    rule: str
    subject: str
    message: str
    about: UUID | None = None  # the mission


class Watch:
    """One control loop's looks. What it remembers from one look to the next is only which services were slow."""

    def __init__(self) -> None:
        self._slow: set[str] = set()
        self._looked = 0.0

    def look_when_due(self) -> None:
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            self.look()

    def look(self) -> None:
        """Count what happened, judge every rule, raise and clear. Nothing where another loop is just doing that."""
        counters.fold()
        services = [*self._services()]
        with transaction.atomic(), connection.cursor() as cursor:
            mark = counters.hold()
            if mark is None:
                return
            served = agents.served()
            found = [
                *_queues(served),
                *_unserved(served),
                *_failing(),
                *_windows(mark),
                *_stalled(),
                *_silent(),
                *_trail(),
                *services,
            ]
            cursor.execute(
                statements.read("missions.control", "alert_raise"),
                {"found": json.dumps([_as_row(one) for one in found])},
            )
            raised = [message for (message,) in cursor.fetchall()]
            cursor.execute(statements.read("missions.control", "alert_clear"), {"quiet": settings.FLEET_ALERT_QUIET_S})
            cleared = [message for (message,) in cursor.fetchall()]
        for message in raised:
            log.warning("alert: %s", message)
        for message in cleared:
            log.info("no longer: %s", message)

    def _services(self) -> Iterator[Finding]:
        """By what this host's supervisor says; where there is none, another loop has to."""
        slow_before, self._slow = self._slow, set()
        host = settings.FLEET_NODE or socket.gethostname()
        for service in metrics.services():
            name, response_s = service["name"], (service["response_ms"] or 0) / 1000
            subject = f"{name}@{host}"
            if 0 < settings.FLEET_ALERT_RESPONSE_S < response_s:
                self._slow.add(name)
                if name in slow_before:  # twice in a row, so that one slow answer is no alert
                    yield Finding(
                        rule="service_slow",
                        subject=subject,
                        message=f"{name} takes {humanise.duration(response_s)} to answer.",
                    )
            if 0 < settings.FLEET_ALERT_MEMORY_MB * 1e6 < (service["memory_bytes"] or 0):
                used = f"{name} uses {service['memory_bytes'] / 1e6:,.0f} MB of memory."
                yield Finding(rule="service_large", subject=subject, message=used)
            if service["state"] in DOWN:
                why = f"{name} is {service['state']}: {service['fault'] or 'see its log'}"
                yield Finding(rule="service_failed", subject=subject, message=why)


def raised() -> list[dict[str, Any]]:
    """What is raised now, the oldest first: `{rule, subject, message, raised_at}`."""
    return [
        {"rule": one.rule, "subject": one.subject, "message": one.message, "raised_at": one.raised_at.isoformat()}
        for one in Alert.objects.all()
    ]


def _queues(served: frozenset[str]) -> Iterator[Finding]:
    if not settings.FLEET_ALERT_QUEUE_S:
        return
    queued = Sortie.objects.filter(state="queued", agent_type__in=served).order_by().values_list("agent_type")
    for type, waited_s in queued.annotate(waited=Extract(Now() - Min("ready_at"), "epoch")):
        if waited_s and waited_s > settings.FLEET_ALERT_QUEUE_S:
            yield Finding(
                rule="queue_old",
                subject=type,
                message=f"A sortie of type {type} has waited {humanise.duration(waited_s)} for an agent. "
                f"Start one more: {invocation.command('fleet_agents', 'spawn', type)}",
            )


def _unserved(served: frozenset[str]) -> Iterator[Finding]:
    """Types for which work waits, and that have no agent which takes any."""
    if not settings.FLEET_ALERT_UNSERVED_S:
        return
    types = dict(AgentType.objects.exclude(name__in=served).values_list("name", "outside"))
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.control", "alert_unserved"),
            {"types": list(types), "after": settings.FLEET_ALERT_UNSERVED_S},
        )
        rows = cursor.fetchall()
    for type, count in rows:
        wait = "1 sortie waits" if count == 1 else f"{count:,} sorties wait"
        start = f"Start one: {invocation.command('fleet_agents', 'spawn', type)}"
        remedy = "External agents serve it: register one." if types[type] else start
        yield Finding(
            rule="unserved",
            subject=type,
            message=f"{wait} for agents of type {type}, and none takes work. {remedy}",
        )


def _failing() -> Iterator[Finding]:
    """Types for which the autoscaler starts agents that die."""
    for decided in scaling.look():
        if decided.on and decided.failing:
            yield Finding(
                rule="agents_failing",
                subject=decided.type,
                message=f"The autoscaler cannot get agents of type {decided.type} to work: {decided.why}",
            )


def _windows(mark: TallyMark) -> Iterator[Finding]:
    """What happened too often within FLEET_ALERT_WINDOW_S."""
    lately = _since_the_window_began(mark)
    window = humanise.duration(settings.FLEET_ALERT_WINDOW_S)
    lost = lately.get("lost", 0)
    if 0 < settings.FLEET_ALERT_AGENTS_LOST < lost:
        yield Finding(
            rule="agents_lost",
            subject="agents",
            message=f"{lost} agents were lost within {window}. See: {invocation.command('fleet_agents', 'list', '--all')}",
        )
    retries, attempts = lately.get("retries", 0), lately.get("attempts", 0)
    if attempts >= FEWEST_ATTEMPTS and 0 < settings.FLEET_ALERT_RETRY_SHARE < retries / attempts:
        yield Finding(
            rule="retries_high",
            subject="attempts",
            message=f"{retries} of {attempts} attempts within {window} failed and are tried again.",
        )
    for name, count in lately.items():
        if name.startswith("restarts ") and 0 < settings.FLEET_ALERT_RESTARTS < count:
            service = name.removeprefix("restarts ")
            yield Finding(
                rule="service_restarting",
                subject=service,
                message=f"{service} was restarted {count} times within {window}. "
                f"See: {invocation.command('fleet_services', 'logs', service)}",
            )


def _since_the_window_began(mark: TallyMark) -> dict[str, int]:
    """By how much the totals have grown within the window. Notes them now and then, where they have changed."""
    now, current = time.time(), _sums()
    past: list[tuple[float, dict[str, int]]] = [(at, dict(sums)) for at, sums in mark.past]
    if not past or (past[-1][1] != current and abs(now - past[-1][0]) >= NOTED_S):
        past.append((now, current))
        began = now - settings.FLEET_ALERT_WINDOW_S
        while len(past) > 1 and past[1][0] <= began:
            del past[0]
        TallyMark.objects.filter(id=mark.id).update(past=past)
    before = [sums for at, sums in past if at <= now - settings.FLEET_ALERT_WINDOW_S]
    base = before[-1] if before else past[0][1]
    return {name: count - base.get(name, 0) for name, count in current.items()}


def _sums() -> dict[str, int]:
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


def _stalled() -> Iterator[Finding]:
    if not settings.FLEET_ALERT_STALLED_S:
        return
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "alert_stalled"), {"after": settings.FLEET_ALERT_STALLED_S})
        rows = cursor.fetchall()
    for mission, name, quiet_s, states in rows:
        ref = ids.encode(ids.MISSION, mission)
        yield Finding(
            rule="mission_stalled",
            subject=ref,
            message=f"Nothing of {name[:100]!r} has moved for {humanise.duration(quiet_s)} ({states or 'nothing left'}). "
            f"See what it waits for: {invocation.command('fleet_mission', 'show', ref)}",
            about=mission,
        )


def _silent() -> Iterator[Finding]:
    """Attempts that run and have printed nothing for as long as their plan, their type or the setting says."""
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.control", "alert_silent"),
            {"after": settings.FLEET_ALERT_SILENCE_S, "noted": ACTIVITY_S, "limit": MOST_SILENT},
        )
        rows = cursor.fetchall()
    for sortie, key, mission, name, quiet_s in rows:
        ref = ids.encode(ids.MISSION, mission)
        yield Finding(
            rule="silent",
            subject=ids.encode(ids.SORTIE, sortie),
            message=f"No output of {key[:80]!r} of {name[:80]!r} for {humanise.duration(quiet_s)}; it keeps "
            f"running. See its log: {invocation.command('fleet_mission', 'logs', ref, key)}. To stop such attempts, set "
            "`silence` in the plan.",
            about=mission,
        )


def _trail() -> Iterator[Finding]:
    if settings.FLEET_ALERT_UNSEALED_S and (held := sealing.blocker(longer_than_s=settings.FLEET_ALERT_UNSEALED_S)):
        yield Finding(rule="audit_unsealed", subject="audit trail", message=str(held))
    if (gaps := protection.gaps()) and protection.expected():
        yield Finding(
            rule="audit_unprotected",
            subject="audit trail",
            message=f"The application can change the audit trail: {gaps[0]}. {protection.remedy()}",
        )


def _as_row(finding: Finding) -> dict[str, str | None]:
    return {
        "rule": finding.rule,
        "subject": finding.subject[:100],
        "message": finding.message[:500],
        "about": str(finding.about) if finding.about else None,
    }
