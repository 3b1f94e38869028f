"""Questions that tell whether a server answers. Each returns when it does.

Unavailable, with why, when it does not: it may yet. Invalid when it answers and will not have us: asking again is vain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import psycopg
import psycopg.conninfo
import redis.asyncio
import redis.exceptions

from fleet import errors
from fleet.config import unix_sockets
from fleet.config.datastores import Postgres
from fleet.config.home import Home

TIMEOUT_S = 5


async def postgres(endpoint: Postgres) -> None:
    """One round trip through authentication and the query path."""
    try:
        where = psycopg.conninfo.make_conninfo(
            host=endpoint.host,
            port=endpoint.port,
            user=endpoint.user,
            password=endpoint.password or None,
            dbname=endpoint.name,
            connect_timeout=TIMEOUT_S,
            **endpoint.options,
        )
        connection = await psycopg.AsyncConnection.connect(where)
        async with connection:
            await connection.execute("SELECT 1")
    except psycopg.Error as fault:
        raise _postgres_fault(endpoint, _line(fault)) from fault


async def redis_server(url: str) -> None:
    """One PING, authenticated."""
    client = redis.asyncio.Redis.from_url(
        url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=None, health_check_interval=0
    )
    try:
        await client.ping()
    except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as fault:
        if client.connection_pool.connection_kwargs.get("password"):
            raise errors.Invalid(f"Redis refuses the password in REDIS_URL: {_line(fault)}") from fault
        raise errors.Invalid(
            "Redis wants a password and REDIS_URL has none.", hint="Write redis://:PASSWORD@host:port/0."
        ) from fault
    except (redis.exceptions.RedisError, OSError) as fault:
        raise errors.Unavailable(f"Redis does not answer: {_line(fault)}") from fault
    finally:
        await client.aclose()


async def http(port: int, path: str) -> None:
    """A GET on the loopback that is answered with anything but a server error."""
    await _get(asyncio.open_connection("127.0.0.1", port), where=f"port {port}", path=path)


async def http_socket(home: Home, name: str, path: str) -> None:
    """The same on the fleet's Unix socket of that name."""
    with unix_sockets.address(home, name) as address:
        await _get(asyncio.open_unix_connection(address), where=name, path=path)


async def _get(
    opening: Coroutine[None, None, tuple[asyncio.StreamReader, asyncio.StreamWriter]], *, where: str, path: str
) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await opening
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                status = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError) as fault:
        raise errors.Unavailable(f"Nothing answers on {where}: {_line(fault)}") from fault
    if len(status) < 2 or not status[1].isdigit() or int(status[1]) >= 500:
        raise errors.Unavailable(f"{where} answers {path} with {b' '.join(status).decode(errors='replace')!r}.")


def _postgres_fault(endpoint: Postgres, said: str) -> errors.FleetError:
    where = f"Postgres at {endpoint.host}:{endpoint.port}"
    if "no password supplied" in said:
        return errors.Invalid(
            f"{where} wants a password and DATABASE_URL has none.",
            hint=f"Write postgresql://{endpoint.user}:PASSWORD@{endpoint.host}:{endpoint.port}/{endpoint.name}.",
        )
    if "authentication failed" in said or "does not exist" in said or "no pg_hba.conf entry" in said:
        return errors.Invalid(f"{where} refuses DATABASE_URL: {said}")
    return errors.Unavailable(f"{where} does not answer: {said}")


def _line(fault: Exception) -> str:
    """The first line of what a library says, which names the fault; the others are advice about its own settings."""
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0]
