"""Django's cache in Redis, and in this process while Redis is away.

What is kept here may be lost at any time: counts of requests, mostly. Redis is given up after a quarter of a second, asked again
by one request a second, and used by all as soon as it answers. Meanwhile each process counts for itself.

Keys are `fleet:1:…`, of Django's making, each with a life.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import redis
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger("fleet.cache")

PATIENCE_S = 0.25
ASK_AGAIN_S = 1.0
ENTRIES = 50_000  # that a process keeps at most


class Away:
    """When Redis may be asked again; one for all threads of a process. The worst of a race is one question too many."""

    def __init__(self) -> None:
        self._until = 0.0

    def __bool__(self) -> bool:
        """Whether it is away. Once a second that is untrue for one caller, who finds out."""
        if not self._until:
            return False
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + ASK_AGAIN_S
            return False
        return True

    def lost(self, fault: Exception) -> None:
        if not self._until:
            log.warning("Redis does not answer (%s); this process counts for itself meanwhile", type(fault).__name__)
        self._until = time.monotonic() + ASK_AGAIN_S

    def found(self) -> None:
        if self._until:
            log.warning("Redis answers again")
            self._until = 0.0


class Either:
    """What RedisCache asks: Redis, or this process's own memory. Both have the methods that it calls, with the same
    arguments: add, get, set, touch, delete, incr, …"""

    def __init__(self, servers: tuple[str, ...]) -> None:
        self._there = RedisCacheClient(
            list(servers), socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, retry=Retry(NoBackoff(), 0)
        )
        self._here = LocMemCache(f"instead of {servers}", {"OPTIONS": {"MAX_ENTRIES": ENTRIES}})
        self._away = Away()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        there, here = getattr(self._there, name), getattr(self._here, name)

        def ask(*args: Any) -> Any:
            if self._away:
                return here(*args)
            try:
                answer = there(*args)
            except (redis.RedisError, OSError) as fault:
                self._away.lost(fault)
                return here(*args)
            self._away.found()
            return answer

        return ask


either = functools.cache(Either)  # one for the process: Django makes a cache for each request, which would connect anew


class Cache(RedisCache):
    def __init__(self, server: str | list[str], params: dict[str, Any]) -> None:
        super().__init__(server, params)
        servers = tuple(server.split(";") if isinstance(server, str) else server)
        self._cache = either(servers)  # type: ignore[assignment]  # it answers what a RedisCacheClient does
