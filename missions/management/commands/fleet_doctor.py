"""`manage.py fleet_doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

import shutil
import stat
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import redis
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor

from agents import discovery
from agents.drivers import sandbox
from agents.models import Agent, AgentType, Node
from fleet import checks, invocation
from fleet.audit import protection
from fleet.console import lines
from fleet.errors import FleetError
from fleet.management.operator import OperatorCommand
from fleet.services import detached, statuses
from fleet.services.outages import start_hint

LIMITS = "rlimits and looks at what the attempt uses, no cgroup"
FREE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy` is empty where it is well."""

    name: str
    well: bool
    said: str
    remedy: str = ""


class Command(OperatorCommand):
    help = "Check the host, the folder, the services and the agents. Each fault comes with its remedy."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def act(self, **options: Any) -> int:
        findings = [finding for look in LOOKS for finding in look()]
        if options["json"]:
            self.show([asdict(finding) for finding in findings])
        else:
            width = lines.columns(self.stdout)
            for one in findings:
                said = one.said if not one.remedy or one.said.endswith((".", "!", "?")) else f"{one.said}."
                text = f"{'ok   ' if one.well else 'FAULT'} {one.name:<13} {said} {one.remedy}".rstrip()
                self.stdout.write(lines.fitted(text, width=width, indent=20))
        return 0 if all(finding.well for finding in findings) else 1


def _host() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "python", sys.version_info >= (3, 11), version, "" if sys.version_info >= (3, 11) else "Use 3.11 or newer."
    )
    git = shutil.which("git")
    yield Finding(
        "git", git is not None, git or "not found", "" if git else "Install git; the sample mission needs it."
    )
    free = shutil.disk_usage(settings.FLEET_HOME.root).free
    yield Finding(
        "disk", free > FREE_BYTES, f"{free / 1e9:.1f} GB free under {settings.FLEET_HOME.root}",
        "" if free > FREE_BYTES else "Make room, or move it with FLEET_HOME.",
    )  # fmt: skip
    try:
        yield Finding("callables", True, f"{len(discovery.names())} that plans may call")
    except FleetError as fault:
        yield Finding("callables", False, fault.message, fault.hint)
    if settings.FLEET_SANDBOX:
        works, why = sandbox.available()
        yield Finding("sandbox", works, why or f"bubblewrap confines work ({sandbox.program()}); limits: {LIMITS}")
    else:
        yield Finding("sandbox", False, checks.NO_SANDBOX, "Remove FLEET_SANDBOX=off.")


def _folder() -> Iterator[Finding]:
    for path, wanted in (
        (settings.FLEET_HOME.private, 0o700),
        (settings.FLEET_HOME.private / "credentials.json", 0o600),
    ):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as fault:
            yield Finding("permissions", False, f"{path}: {fault.strerror}.", start_hint())
            continue
        yield Finding(
            "permissions",
            mode == wanted,
            f"{path} has mode {mode:04o}",
            "" if mode == wanted else f"chmod {wanted:o} it.",
        )


def _supervisor() -> Iterator[Finding]:
    state = detached.state(settings.FLEET_HOME)
    if left := state.get("left"):
        yield Finding("supervisor", False, statuses.left_behind(left), f"Stop them: {invocation.command('fleet_down')}")
    elif state["running"]:
        yield Finding("supervisor", True, "keeps the services")


def _services() -> Iterator[Finding]:
    start = start_hint()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            (version,) = cursor.fetchone()
        yield Finding("postgres", True, f"version {version}")
        executor = MigrationExecutor(connection)
        left = executor.migration_plan(executor.loader.graph.leaf_nodes())
        yield Finding(
            "migrations",
            not left,
            f"{len(left)} to apply",
            f"Apply them: {invocation.command('migrate')}" if left else "",
        )
        if not left:
            yield from _trail()
            yield from _agents(start)
            yield from _prompts()
    except Error as fault:
        yield Finding("postgres", False, (str(fault).strip().splitlines() or ["does not answer"])[0], start)
    try:
        with redis.Redis.from_url(
            settings.FLEET_ENDPOINTS.redis_url, socket_connect_timeout=2, socket_timeout=2
        ) as client:
            client.ping()
        yield Finding("redis", True, "answers")
    except redis.RedisError as fault:
        yield Finding("redis", False, str(fault), start)


def _trail() -> Iterator[Finding]:
    gaps = protection.gaps()
    before = "no longer protected" if gaps and protection.expected() else "protected by its chain only"
    said = (
        f"{before}: the application's role {gaps[0].removeprefix('it ')}"
        if gaps
        else "the application can only add to it"
    )
    yield Finding("audit trail", not gaps, said, protection.remedy() if gaps else "")


def _agents(start: str) -> Iterator[Finding]:
    live = set(Agent.objects.filter(state__in=Agent.LIVE).values_list("type", flat=True))
    runs = Node.objects.filter(up=True).exists()
    for name in AgentType.objects.filter(enabled=True).values_list("name", flat=True):
        if name in live:
            yield Finding(name, True, "has an agent")
            continue
        last = Agent.objects.filter(type=name).exclude(reason="").order_by("-ended_at").first()
        why = f"has no agent; the last one {last.state}: {last.reason}" if last and runs else "has no agent"
        yield Finding(
            name, False, why, f"Start one: {invocation.command('fleet_agents', 'spawn', name)}" if runs else start
        )


def _prompts() -> Iterator[Finding]:
    """Types that take prompts: whether the program that gets them is on this host. One that is named by a relative path
    depends on the folder of each sortie."""
    for kind in AgentType.objects.filter(enabled=True, outside=False).exclude(prompt_argv=[]):
        program = str(kind.prompt_argv[0])
        if "/" in program and not program.startswith("/"):
            continue
        found = shutil.which(program)
        yield Finding(
            kind.name,
            found is not None,
            f"gives prompts to {found}" if found else f"takes prompts, but {program!r} is no program on this host",
            ""
            if found
            else "Install it on each host with agents of this type, or name another one: "
            f"{invocation.command('fleet_agents', 'type', 'set', kind.name)} --prompt-argv '[\"PROGRAM\", …]'",
        )


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (_host, _folder, _supervisor, _services)
