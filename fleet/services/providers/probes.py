"""Health probes: each returns if its server answers.

A probe raises Unavailable, with the reason, if the server does not answer, and Invalid if it refuses the configuration,
such as a wrong password. Repeating a probe that raised Invalid is pointless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import psycopg
import redis.exceptions

from fleet import errors
from fleet.config import redis_address, unix_sockets
from fleet.config.datastores import Postgres
from fleet.config.home import Home
from fleet.postgres import parameters
from fleet.redis import clients
from fleet.services.supervision.service import Overloaded

TIMEOUT_S = 5
_TLS_ERRORS = (  # in messages of libpq
    "certificate verify failed",
    "does not match host name",
    "root certificate file",
)


async def postgres(endpoint: Postgres, *, setting: str = "DATABASE_URL", session: bool = False) -> None:
    """Connect, authenticate and run one query. `session`: the connection must keep its session, past any pooler."""
    try:
        libpq = parameters.for_libpq(endpoint, connect_timeout_s=TIMEOUT_S, application_name="fleet probe")
        async with await psycopg.AsyncConnection.connect(**libpq) as connection:
            (pid,) = await (await connection.execute("SELECT pg_backend_pid()")).fetchone() or (0,)
            pooled = pid != connection.info.backend_pid  # a pooler shows its clients made-up pids
    except psycopg.Error as error:
        raise _postgres_error(endpoint, _first_line(error), setting=setting) from error
    if session and pooled:
        raise errors.Invalid(
            f"{setting} points to a pooler at {endpoint.host}:{endpoint.port}.",
            hint="Set it to the address of Postgres itself: LISTEN and locks need a session.",
        )


async def redis_server(url: str) -> None:
    """Send an authenticated PING to the server, or to the master that the Sentinels name."""
    try:
        async with clients.async_client(url, timeout_s=TIMEOUT_S) as client:
            await client.ping()
    except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        if redis_address.parse(url).password:
            raise errors.Invalid(f"Redis refuses the password in REDIS_URL: {_first_line(error)}") from error
        raise errors.Invalid(
            "Redis requires a password and REDIS_URL has none.", hint="Set REDIS_URL to redis://:PASSWORD@host:port/0."
        ) from error
    except (redis.exceptions.RedisError, OSError) as error:
        message = _first_line(error)
        if "CERTIFICATE_VERIFY_FAILED" in message:
            raise errors.Invalid(
                f"The certificate of Redis is not valid for REDIS_URL: {message}",
                hint="Name the CA that signed it (?ssl_ca_certs=FILE), and use the host name in the certificate.",
            ) from error
        if "max number of clients" in message:
            raise Overloaded(f"Redis has no connection left: {message}") from error
        raise errors.Unavailable(f"Redis does not answer: {message}") from error


async def http(port: int, path: str) -> None:
    """GET a path on a port of the loopback; any status below 500 counts as healthy."""
    await _get(asyncio.open_connection("127.0.0.1", port), server=f"Port {port}", path=path)


async def http_socket(home: Home, name: str, path: str) -> None:
    """GET a path on the fleet's Unix socket of this name; any status below 500 counts as healthy."""
    with unix_sockets.address(home, name) as address:
        await _get(asyncio.open_unix_connection(address), server=f"Socket {name}", path=path)


async def _get(
    connecting: Coroutine[None, None, tuple[asyncio.StreamReader, asyncio.StreamWriter]], *, server: str, path: str
) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await connecting
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                status = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise errors.Unavailable(f"{server} does not answer: {_first_line(error)}") from error
    if len(status) < 2 or not status[1].isdigit() or int(status[1]) >= 500:
        raise errors.Unavailable(f"{server} answers {path} with {b' '.join(status).decode(errors='replace')!r}.")


def _postgres_error(endpoint: Postgres, message: str, *, setting: str) -> errors.FleetError:
    server = f"Postgres at {endpoint.host}:{endpoint.port}"
    if "no password supplied" in message:
        address = f"{endpoint.host}:{endpoint.port}/{endpoint.name}"
        return errors.Invalid(
            f"{server} requires a password and {setting} has none.",
            hint=f"Set {setting} to postgresql://{endpoint.user}:PASSWORD@{address}.",
        )
    if any(words in message for words in _TLS_ERRORS):
        return errors.Invalid(
            f"The certificate of {server} is not valid for {setting}: {message}",
            hint="For verify-full, name the CA that signed it (sslrootcert=FILE), and use the host name in the certificate.",
        )
    if "unsupported startup parameter" in message:
        return errors.Invalid(
            f"{server} is PgBouncer, and DATABASE_DIRECT_URL is not set: {message}",
            hint="Set DATABASE_DIRECT_URL to the address of Postgres itself; see docs/deploy.md.",
        )
    if "authentication failed" in message or "does not exist" in message or "no pg_hba.conf entry" in message:
        return errors.Invalid(f"{server} refuses {setting}: {message}")
    if "too many clients" in message or "remaining connection slots" in message:
        return Overloaded(f"{server} has no connection left: {message}")
    return errors.Unavailable(f"{server} does not answer: {message}")


def _first_line(error: Exception) -> str:
    """The first line of a library's message, which names the error; the other lines advise about its own settings."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
