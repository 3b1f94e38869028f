"""Clients of Redis for an address of any kind (fleet/config/redis_address.py): of a server, or through Sentinel.

Through Sentinel, every new connection asks the Sentinels which server is the master. A connection to a server that is
no longer the master is closed at the first command that it refuses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from fleet.config import redis_address
from fleet.config.redis_address import RedisAddress


def pool(address: RedisAddress, **options: Any) -> redis.ConnectionPool:
    """A pool of connections. `options` are those of redis-py's connections, such as `socket_timeout`.

    A `connection_class` among them must support TLS or Sentinel if the address needs them.
    """
    if address.master:
        without_retries = {**_sentinel_options(address, options), "retry": Retry(NoBackoff(), 0)}
        manager = redis.sentinel.Sentinel(address.servers, sentinel_kwargs=without_retries)  # type: ignore[no-untyped-call]
        master_options = _master_options(address, options)
        return redis.sentinel.SentinelConnectionPool(address.master, manager, **master_options)  # type: ignore[no-untyped-call]
    classes = {"socket": redis.UnixDomainSocketConnection, "tls": redis.SSLConnection}
    return redis.ConnectionPool(**_server_options(address, options, **classes))


class CachePool(redis.ConnectionPool):
    """The `pool_class` of Django's RedisCacheClient: a factory that creates pools of other classes."""

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Any:
        return pool(redis_address.parse(url), **options)


@contextmanager
def client(url: str, *, timeout_s: float) -> Iterator[redis.Redis]:
    """A client whose connections are closed when the block ends."""
    connections = pool(redis_address.parse(url), socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    try:
        yield redis.Redis(connection_pool=connections)
    finally:
        connections.disconnect()
        if isinstance(connections, redis.sentinel.SentinelConnectionPool):
            connections.sentinel_manager.close()


@asynccontextmanager
async def async_client(url: str, *, timeout_s: float) -> AsyncIterator[redis.asyncio.Redis]:
    """Like `client`, in an event loop, and without retries."""
    address = redis_address.parse(url)
    options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": None}
    connections: redis.asyncio.ConnectionPool
    managers: list[redis.asyncio.Redis] = []
    if address.master:
        sentinel_options, master_options = _sentinel_options(address, options), _master_options(address, options)
        manager = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            address.servers, sentinel_kwargs=sentinel_options
        )
        managers = list(manager.sentinels)
        connections = redis.asyncio.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]
            address.master, manager, **master_options
        )
    else:
        classes = {"socket": redis.asyncio.UnixDomainSocketConnection, "tls": redis.asyncio.SSLConnection}
        connections = redis.asyncio.ConnectionPool(**_server_options(address, options, **classes))
    try:
        yield redis.asyncio.Redis(connection_pool=connections)
    finally:
        await connections.disconnect()
        for manager_client in managers:
            await manager_client.aclose()


def _server_options(address: RedisAddress, options: Mapping[str, Any], *, socket: Any, tls: Any) -> dict[str, Any]:
    if address.path:
        location: dict[str, Any] = {"path": address.path, "connection_class": socket}
    else:
        ((host, port),) = address.servers
        location = {"host": host, "port": port}
        if address.tls is not None:
            location |= {"connection_class": tls, **address.tls}
    return {**location, "db": address.database, **address.credentials, **options}


def _master_options(address: RedisAddress, options: Mapping[str, Any]) -> dict[str, Any]:
    tls = {} if address.tls is None else {"ssl": True, **address.tls}
    return {**tls, "db": address.database, **address.credentials, **options}


def _sentinel_options(address: RedisAddress, options: Mapping[str, Any]) -> dict[str, Any]:
    timeouts = {name: value for name, value in options.items() if name in {"socket_timeout", "socket_connect_timeout"}}
    return {**address.sentinel_arguments, **timeouts}
