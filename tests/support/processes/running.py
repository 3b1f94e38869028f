"""Access to a fleet that runs in separate processes: its Redis, its Postgres and its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from fleet.config import credentials, datastores
from fleet.config.env import Environment
from fleet.config.home import Home


def endpoints(home: Path) -> datastores.Endpoints:
    """The endpoints of the embedded services of the fleet in this folder."""
    fleet_home = Home(home)
    return datastores.resolve(Environment({}), fleet_home, credentials.ensure(fleet_home))


def valkey(home: Path) -> redis.Redis:
    return redis.Redis.from_url(endpoints(home).redis_url)


def rows(home: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows that a query of the fleet's Postgres returns."""
    postgres = endpoints(home).postgres
    with psycopg.connect(
        host=postgres.host, port=postgres.port, user=postgres.user, password=postgres.password, dbname=postgres.name
    ) as database:
        return database.execute(query, values).fetchall()


def postmaster(home: Path) -> int:
    """The pid of the fleet's Postgres."""
    return int((Home(home).private / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])


def processes(home: Path, word: str) -> list[psutil.Process]:
    """The fleet's processes that have this word among their arguments."""
    matches = []
    for process in psutil.process_iter():
        try:
            if word in process.cmdline() and process.environ().get("FLEET_HOME") == str(home):
                matches.append(process)
        except psutil.Error:
            continue
    return matches


def agents(home: Path) -> list[psutil.Process]:
    """The processes of live agents, by the database: as forks of their node, they have its command line."""
    matches = []
    for (pid,) in rows(home, "SELECT pid FROM agents_agent WHERE ended_at IS NULL AND pid IS NOT NULL"):
        try:
            matches.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return matches


def all_processes(home: Path) -> list[psutil.Process]:
    """All processes of the fleet: those with its folder in their environment or command, and their descendants."""
    matches = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("FLEET_HOME") == str(home) or str(home) in " ".join(process.cmdline()):
                matches |= {process, *process.children(recursive=True)}
        except psutil.Error:
            continue
    return sorted(matches, key=lambda process: process.pid)


def kill_everything(home: Path) -> int:
    """Send SIGKILL to all processes of the fleet until none is left; returns the number of processes."""
    count = 0
    while remaining := all_processes(home):
        for process in remaining:
            try:
                process.kill()
                count += 1
            except psutil.Error:
                continue
        psutil.wait_procs(remaining, timeout=5)
    return count
