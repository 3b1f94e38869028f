"""Finds Postgres's own programs for dumps, and runs them against the fleet's database.

Passwords go through the environment, which no other user can read, and never through arguments.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections
from psycopg.conninfo import make_conninfo

from fleet import errors
from fleet.config import programs
from fleet.config.datastores import Postgres
from fleet.postgres import parameters

OWNER_HINT = "Set DATABASE_OWNER_URL to a role that owns the database and is a member of fleet_audit (docs/backup.md)."
_ASSUMED_ROLE = re.compile(r"-c\s*role=\S+")


@dataclass(frozen=True, slots=True)
class PostgresClients:
    """The folder of pg_dump, pg_restore and psql, and their major version."""

    folder: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.folder / name)


def find(*, server: int, at_least: int = 0) -> PostgresClients:
    """The programs for a server of this major version: of the same one if possible, else of the next newer one.

    `at_least`: the version that wrote the dump. Raises Unavailable if none on this host is new enough.
    """
    needed = max(server, at_least)
    usable = [
        PostgresClients(folder, major) for folder in programs.postgres_clients() if (major := _major(folder)) >= needed
    ]
    if not usable:
        raise errors.Unavailable(
            f"pg_dump, pg_restore and psql of Postgres {needed} or newer were not found on this host.",
            hint=f"Install them (on Debian: postgresql-client-{needed}), or run `make install`.",
        )
    return min(usable, key=lambda clients: clients.major)


def _major(folder: Path) -> int:
    try:
        text = subprocess.run(
            [folder / "pg_dump", "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r" (\d+)", text)
    return int(match[1]) if match else 0


def reader() -> Postgres:
    """The server with the login that may read everything: the one for migrations, without assuming the owner's role."""
    server = writer()
    options = {**server.options, "options": _ASSUMED_ROLE.sub("", server.options.get("options", "")).strip()}
    return replace(server, options={name: value for name, value in options.items() if value})


def writer() -> Postgres:
    """The server with the role that owns what it creates: the one for migrations."""
    endpoints = settings.FLEET_ENDPOINTS
    server: Postgres = endpoints.owner or endpoints.postgres
    options = {**endpoints.postgres.options, **server.options}
    return replace(server, name=connections["default"].settings_dict["NAME"], options=options)


def libpq(server: Postgres) -> dict[str, Any]:
    """The parameters for psycopg."""
    return parameters.for_libpq(
        server, connect_timeout_s=settings.FLEET_POSTGRES_TIMEOUT_S, application_name="fleet backup"
    )


@contextmanager
def session(server: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """Open a connection, and a transaction, for the block. Raises Forbidden if the role lacks a privilege."""
    try:
        with psycopg.connect(**libpq(server)) as connection:
            yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise errors.Forbidden(
            f"The role {server.user} lacks a privilege in the database {server.name}: {error.diag.message_primary}.",
            hint=OWNER_HINT,
        ) from error


def connection_string(server: Postgres, clients: PostgresClients) -> tuple[str, Mapping[str, str]]:
    """The connection string for a program, without the password, and the environment for it, with the password."""
    values = libpq(server)
    password = values.pop("password", "")
    if clients.major < 16:
        values.pop("require_auth", None)  # new in libpq 16
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return make_conninfo(**values), {**environment, "PGPASSWORD": password, "LC_ALL": "C.UTF-8"}


def failure_reason(stderr: bytes) -> str:
    """The line of a program's standard error that says what failed. The other lines may quote rows."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    causes = [line for line in lines if re.search(r"\b(error|ERROR|FATAL|could not)\b", line)]
    return (causes or lines or ["it gave no reason"])[0][:300]
