"""Questions that tell whether a service answers. Each returns when it does, or raises Unavailable with why."""

from __future__ import annotations

import psycopg
import psycopg.conninfo
import redis.asyncio
import redis.exceptions

from fleet import errors
from fleet.endpoints import Postgres

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
        raise errors.Unavailable(
            f"Postgres at {endpoint.host}:{endpoint.port} does not answer: {_line(fault)}"
        ) from fault


async def redis_server(url: str) -> None:
    """One PING, authenticated."""
    client = redis.asyncio.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        await client.ping()
    except (redis.exceptions.RedisError, OSError) as fault:
        raise errors.Unavailable(f"Redis does not answer: {_line(fault)}") from fault
    finally:
        await client.aclose()


def _line(fault: Exception) -> str:
    """The first line of what a library says, which names the fault; the others are advice about its own settings."""
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0]
