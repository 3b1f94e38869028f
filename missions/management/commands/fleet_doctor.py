"""`manage.py fleet_doctor`: check this host and the fleet, and explain how to fix each problem."""

from __future__ import annotations

import json
import os
import shlex
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

from agents import discovery, operations
from agents.confinement import bubblewrap, cgroups, probe
from agents.models import Agent, AgentType, Node
from fleet import checks
from fleet.audit import protection
from fleet.console import invocation, lines
from fleet.errors import FleetError
from fleet.host import trusted_programs
from fleet.management.operator import OperatorCommand
from fleet.redis import clients
from fleet.services import detached, outages, statuses
from fleet.services.outages import start_hint
from missions.models import Mission
from missions.workspaces.repositories import git

FREE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. `message` describes it; `remedy`: what to do, or empty. The fields are JSON keys."""

    name: str
    healthy: bool
    message: str
    remedy: str = ""


class Command(OperatorCommand):
    help = "Check the host, the folder, the services and the agents. Each problem comes with its remedy."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def act(self, **options: Any) -> int:
        findings = [finding for check in CHECKS for finding in check()]
        if options["json"]:
            self.show([asdict(finding) for finding in findings])
        else:
            width = lines.columns(self.stdout)
            for finding in findings:
                message, remedy = finding.message, finding.remedy
                if remedy and not message.endswith((".", "!", "?")):
                    message += "."
                text = f"{'ok   ' if finding.healthy else 'ERROR'} {finding.name:<13} {message} {remedy}".rstrip()
                self.stdout.write(lines.fitted(text, width=width, indent=20))
        return 0 if all(finding.healthy for finding in findings) else 1


def _host() -> Iterator[CheckResult]:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = sys.version_info >= (3, 11)
    yield CheckResult("python", supported, version, "" if supported else "Use Python 3.11 or newer.")
    yield _git()
    free = shutil.disk_usage(settings.FLEET_HOME.root).free
    yield CheckResult(
        "disk", free > FREE_BYTES, f"{free / 1e9:.1f} GB free under {settings.FLEET_HOME.root}",
        "" if free > FREE_BYTES else "Free some space, or move the folder with FLEET_HOME.",
    )  # fmt: skip
    try:
        yield CheckResult("callables", True, f"{len(discovery.names())} registered")
    except FleetError as error:
        yield CheckResult("callables", False, error.message, error.hint)
    if settings.FLEET_SANDBOX:
        problem = probe.sandbox_problem()
        yield CheckResult("sandbox", not problem, problem or f"bubblewrap ({bubblewrap.program()})")
    else:
        yield CheckResult("sandbox", False, checks.NO_SANDBOX, "Remove FLEET_SANDBOX=off.")


def _git() -> CheckResult:
    needed = ".".join(map(str, git.MIN_VERSION))
    if git.version() == (0, 0) and (ignored := shutil.which("git")) and not trusted_programs.find("git"):
        return CheckResult(
            "git", False, f"{ignored} is ignored: it is outside the system's folders, so a workload could replace it",
            f"Install your distribution's package of git {needed} or newer, or list its folder in FLEET_PROGRAM_FOLDERS.",
        )  # fmt: skip
    if git.version() == (0, 0):
        return CheckResult(
            "git", False, "not found", f"Install git {needed} or newer; workspaces and the sample need it."
        )
    version = f"version {'.'.join(map(str, git.version()))} ({trusted_programs.find('git')})"
    if git.version() < git.MIN_VERSION:
        return CheckResult("git", False, version, f"Install git {needed} or newer; missions with a workspace need it.")
    return CheckResult("git", True, version)


def _limits() -> Iterator[CheckResult]:
    """What enforces the limits of attempts: on the nodes of this host, or else on a node that is started like this."""
    try:
        pids = operations.pids_of_nodes_on_this_host()
    except Error:  # another check reports it
        pids = []
    bases = {cgroups.in_use(pid) for pid in pids} or {cgroups.find()}
    for base, why in sorted(bases):
        message = (
            f"polled, because cgroup v2 cannot be used: {why}. Run the node as a systemd service with Delegate=yes."
        )
        yield CheckResult("limits", True, message if why else f"by cgroup v2, in {base}")


def _folder() -> Iterator[CheckResult]:
    for path, expected in (
        (settings.FLEET_HOME.private, 0o700),
        (settings.FLEET_HOME.private / "credentials.json", 0o600),
    ):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            yield CheckResult("permissions", False, f"{path}: {error.strerror}.", start_hint())
            continue
        yield CheckResult(
            "permissions",
            mode == expected,
            f"{path} has mode {mode:04o}",
            "" if mode == expected else f"Run: chmod {expected:o} {shlex.quote(str(path))}",
        )


def _supervisor() -> Iterator[CheckResult]:
    state = detached.state(settings.FLEET_HOME)
    if leftovers := state.get("left"):
        stop = f"Stop them: {invocation.command('fleet_down')}"
        yield CheckResult("supervisor", False, statuses.describe_orphans(leftovers), stop)
    elif state["running"]:
        yield CheckResult("supervisor", True, "is running")


def _services() -> Iterator[CheckResult]:
    start = start_hint()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            (version,) = cursor.fetchone()
        endpoints = settings.FLEET_ENDPOINTS
        on_port = endpoints.provider == "embedded" and not endpoints.postgres.host.startswith("/")
        warning = ", on a port that workloads with a network can reach (FLEET_EMBEDDED_SOCKETS)" if on_port else ""
        yield CheckResult("postgres", True, f"version {version}{warning}")
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
        yield CheckResult(
            "migrations",
            not pending,
            f"{len(pending)} to apply",
            f"Apply them: {invocation.command('migrate')}" if pending else "",
        )
        if not pending:
            yield from _audit_trail()
            yield from _agents(start)
            yield from _prompts()
            yield from _readable()
            yield from _path()
    except Error as error:
        problem = outages.postgres_unavailable(error)
        yield CheckResult("postgres", False, problem.message, problem.hint)
    try:
        with clients.client(settings.FLEET_ENDPOINTS.redis_url, timeout_s=2) as client:
            client.ping()
        yield CheckResult("redis", True, "answers")
    except redis.RedisError as error:
        problem = outages.redis_unavailable(error)
        yield CheckResult("redis", False, problem.message, problem.hint)


def _audit_trail() -> Iterator[CheckResult]:
    gaps = protection.gaps()
    if not gaps:
        yield CheckResult("audit trail", True, "the application can only add to it")
        return
    status = "no longer protected" if protection.is_required() else "protected by its chain only"
    gap = gaps[0].removeprefix("it ")
    yield CheckResult("audit trail", False, f"{status}: the application's role {gap}", protection.remedy())


def _agents(start: str) -> Iterator[CheckResult]:
    live = set(Agent.objects.filter(state__in=Agent.LIVE).values_list("type", flat=True))
    node_up = Node.objects.filter(up=True).exists()
    for name in AgentType.objects.filter(enabled=True).values_list("name", flat=True):
        if name in live:
            yield CheckResult(name, True, "has an agent")
            continue
        last = Agent.objects.filter(type=name).exclude(reason="").order_by("-ended_at").first()
        message = f"has no agent; the last one {last.state}: {last.reason}" if last and node_up else "has no agent"
        remedy = f"Start one: {invocation.command('fleet_agents', 'spawn', name)}" if node_up else start
        yield CheckResult(name, False, message, remedy)


def _prompts() -> Iterator[CheckResult]:
    """Whether the program that takes a type's prompts is installed on this host."""
    for agent_type in AgentType.objects.filter(enabled=True, external=False).exclude(prompt_argv=[]):
        program = str(agent_type.prompt_argv[0])
        if "/" in program and not program.startswith("/"):
            continue  # a relative path depends on the folder of each sortie
        if path := shutil.which(program):
            yield CheckResult(agent_type.name, True, f"gives prompts to {path}")
            continue
        change = invocation.command("fleet_agents", "type", "set", agent_type.name)
        yield CheckResult(
            agent_type.name,
            False,
            f"takes prompts, but the program {program!r} is not installed on this host",
            "Install it on each host with agents of this type, or name another program: "
            f'{change} --prompt-argv \'["claude", "-p"]\'',
        )


def _readable() -> Iterator[CheckResult]:
    """The paths under `readable` of agent types that contain a link: attempts do not follow it."""
    for agent_type in AgentType.objects.filter(enabled=True, external=False).exclude(readable=[]):
        targets = [os.path.realpath(path) for path in agent_type.readable]
        for path, target in zip(agent_type.readable, targets, strict=True):
            if os.path.normpath(path) != target and os.path.lexists(path):
                change = invocation.command(
                    *("fleet_agents", "type", "set", agent_type.name, "--readable", json.dumps(targets))
                )
                yield CheckResult(
                    agent_type.name, False, f"`readable` names {path}, which contains a symbolic link, so attempts fail",
                    f"If you put it there and want workloads to read {target}: {change}",
                )  # fmt: skip


def _path() -> Iterator[CheckResult]:
    """The folders of PATH in which workloads may have put programs."""
    missions = Mission.objects.exclude(folder="").values_list("folder", flat=True).distinct()
    folders = [*settings.FLEET_FOLDERS, *missions]
    for path in trusted_programs.ignored_folders():
        if any(path.is_relative_to(folder) or path.resolve().is_relative_to(folder) for folder in folders):
            yield CheckResult(
                "path", True, f"Warning: workloads can write to {path}, which is in PATH. The fleet runs no program from it, but "
                "this shell does.",
            )  # fmt: skip


CHECKS: tuple[Callable[[], Iterator[CheckResult]], ...] = (_host, _limits, _folder, _supervisor, _services)
