"""Django's cache in Redis, with a fallback to the memory of the process while Redis is away.

Its content, mostly counts of requests, may be lost at any time. A query of Redis times out after a quarter of a second.
From then on each process counts for itself, and one request per second tries Redis again, until it answers.

Django builds the keys, `fleet:1:…`. Each has an expiry time. Values are whole numbers, because Django's own serializer
unpickles whatever it finds: anyone who can write to Redis could run code in the web process. Other values, such as the
results of a search in the admin, are not stored and are computed again each time.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import redis
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache, RedisCacheClient, RedisSerializer
from redis.backoff import NoBackoff
from redis.retry import Retry

from fleet.redis import clients

log = logging.getLogger("fleet.cache")

TIMEOUT_S = 0.25
RETRY_S = 1.0
MAX_ENTRIES = 50_000  # in the memory of a process


class Outage:
    """Whether Redis is away, shared by all threads of a process. A race can cause an extra query, but nothing worse."""

    def __init__(self) -> None:
        self._until = 0.0

    def skip_redis(self) -> bool:
        """Whether to use the fallback. Once a second this is false for one caller, whose query is the retry."""
        if not self._until:
            return False
        now = time.monotonic()
        if now >= self._until:
            self._until = now + RETRY_S
            return False
        return True

    def begin(self, error: Exception) -> None:
        if not self._until:
            log.warning("Redis does not answer (%s); this process counts by itself until it does", type(error).__name__)
        self._until = time.monotonic() + RETRY_S

    def end(self) -> None:
        if self._until:
            log.warning("Redis answers again")
            self._until = 0.0


class IntegerSerializer(RedisSerializer):
    def dumps(self, obj: int) -> bytes:
        return b"%d" % obj

    def loads(self, data: Any) -> Any:
        try:
            return int(data)
        except ValueError as error:
            raise redis.DataError("a value is not a number") from error


class FallbackClient:
    """A client for RedisCache that uses Redis, or the memory of the process while Redis is away.

    Both have the methods that RedisCache calls, with the same arguments: add, get, set, touch, delete, incr, …
    """

    def __init__(self, servers: tuple[str, ...]) -> None:
        self._redis = RedisCacheClient(
            list(servers),
            serializer=IntegerSerializer,
            pool_class=clients.CachePool,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._memory = LocMemCache(f"instead of {servers}", {"OPTIONS": {"MAX_ENTRIES": MAX_ENTRIES}})
        self._outage = Outage()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        remote, local = getattr(self._redis, name), getattr(self._memory, name)

        def call(*args: Any) -> Any:
            if self._outage.skip_redis():
                return local(*args)
            try:
                result = remote(*args)
            except (redis.RedisError, OSError) as error:
                self._outage.begin(error)
                return local(*args)
            self._outage.end()
            return result

        return call


# One client per process: Django creates a cache per request, which would reconnect.
shared_client = functools.cache(FallbackClient)


class Cache(RedisCache):
    def __init__(self, server: str | list[str], params: dict[str, Any]) -> None:
        super().__init__(server, params)
        servers = tuple(server.split(";") if isinstance(server, str) else server)
        self._cache = shared_client(servers)  # type: ignore[assignment]  # it has the methods of a RedisCacheClient

    def set(self, key: Any, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store a whole number. Any other value is not stored, and an earlier one under the key is deleted."""
        if isinstance(value, int):
            super().set(key, value, timeout=timeout, version=version)
        else:
            self.delete(key, version=version)
