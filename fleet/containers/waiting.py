"""Waits, for a limited time, until Postgres, Redis and the migrations are available, and logs what it waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Literal

import psycopg

from fleet import errors, humanise
from fleet.config.datastores import Endpoints, Postgres
from fleet.postgres import parameters, statements
from fleet.services.providers import probes

Need = Literal["owner", "postgres", "redis", "migrations"]
APPS = ("fleet", "agents", "missions", "checkpoints")
PAUSE_S = 0.5
REMINDER_S = 15  # between two lines about the same need


def wait(
    needs: Iterable[Need], *, endpoints: Endpoints, base: Path, seconds: float, say: Callable[[str], None]
) -> None:
    """Wait for each need in turn; raises Unavailable, naming the need, if it is not met `seconds` after the start.

    A refused password counts as not yet available: the container that migrates creates the application's role.
    """
    deadline = time.monotonic() + seconds
    for need in needs:
        name, check = _check(need, endpoints, base)
        _wait_for(name, check, deadline=deadline, seconds=seconds, say=say)


def _wait_for(
    name: str,
    check: Callable[[], Awaitable[None]],
    *,
    deadline: float,
    seconds: float,
    say: Callable[[str], None],
) -> None:
    last, last_at = "", 0.0
    while True:
        try:
            return asyncio.run(_with_timeout(check))
        except errors.FleetError as error:
            reason = error.message.removeprefix(f"{name} ").rstrip(".")
        now = time.monotonic()
        if now > deadline:
            raise errors.Unavailable(
                f"Waited {humanise.duration(seconds)} for {name}: {reason}.",
                hint="See the log of that container. FLEET_WAIT_S sets how long to wait.",
            )
        if reason != last or now - last_at > REMINDER_S:
            last, last_at = reason, now
            say(f"waiting for {name}: {reason}")
        time.sleep(PAUSE_S)


async def _with_timeout(check: Callable[[], Awaitable[None]]) -> None:
    try:
        async with asyncio.timeout(2 * probes.TIMEOUT_S):
            await check()
    except TimeoutError:
        raise errors.Unavailable("no answer") from None


def _check(need: Need, endpoints: Endpoints, base: Path) -> tuple[str, Callable[[], Awaitable[None]]]:
    match need:
        case "owner":
            owner = endpoints.owner
            if owner is None:
                raise errors.Invalid(
                    "DATABASE_OWNER_URL is not set.",
                    hint="The container that migrates needs the role that owns the database.",
                )
            return f"Postgres at {owner.host}:{owner.port}", lambda: probes.postgres(owner)
        case "postgres":
            server = endpoints.postgres
            return f"Postgres at {server.host}:{server.port}", lambda: probes.postgres(server)
        case "redis":
            return f"Redis at {endpoints.redis}", lambda: probes.redis_server(endpoints.redis_url)
        case "migrations":
            return "the migrations", lambda: _migrated(endpoints.postgres, base)


async def _migrated(server: Postgres, base: Path) -> None:
    """Return if the database has every migration of this image. It may also have those of a newer one."""
    migrations = {(app, file.stem) for app in APPS for file in (base / app / "migrations").glob("[0-9]*.py")}
    try:
        libpq = parameters.for_libpq(server, connect_timeout_s=probes.TIMEOUT_S, application_name="fleet container")
        async with await psycopg.AsyncConnection.connect(**libpq) as session:
            applied = set(await (await session.execute(statements.read("fleet", "applied_migrations"))).fetchall())
    except psycopg.errors.UndefinedTable:
        raise errors.Unavailable("none has been applied yet") from None
    except psycopg.errors.InsufficientPrivilege:  # the privileges are granted at the end
        raise errors.Unavailable("they are being applied") from None
    except psycopg.Error as error:
        raise errors.Unavailable(str(error).strip().splitlines()[0]) from error
    if missing := migrations - applied:
        raise errors.Unavailable(f"{len(missing)} of {len(migrations)} are not applied yet")
