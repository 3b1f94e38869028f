"""Ways into a fleet that runs in processes of its own: its Redis, its Postgres and its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from fleet.config import credentials, datastores
from fleet.config.env import Environment
from fleet.config.home import Home


def doors(home: Path) -> datastores.Endpoints:
    """Where the embedded services of the fleet in that folder listen."""
    found = Home(home)
    return datastores.resolve(Environment({}), found, credentials.ensure(found))


def valkey(home: Path) -> redis.Redis:
    return redis.Redis.from_url(doors(home).redis_url)


def rows(home: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the fleet's Postgres answers."""
    where = doors(home).postgres
    with psycopg.connect(
        host=where.host, port=where.port, user=where.user, password=where.password, dbname=where.name
    ) as database:
        return database.execute(query, values).fetchall()


def postmaster(home: Path) -> int:
    """The pid of the fleet's Postgres."""
    return int((Home(home).private / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])


def processes(home: Path, word: str) -> list[psutil.Process]:
    """The fleet's processes whose command line has that word."""
    found = []
    for process in psutil.process_iter():
        try:
            if word in process.cmdline() and process.environ().get("FLEET_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return found


def agents(home: Path) -> list[psutil.Process]:
    """The processes of the agents that are alive by their rows. They are forks of their node and look like it."""
    found = []
    for (pid,) in rows(home, "SELECT pid FROM agents_agent WHERE ended_at IS NULL AND pid IS NOT NULL"):
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return found
