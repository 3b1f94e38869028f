"""Someone who can write to Redis can delay work and reset counts, but cannot run code or learn settings."""

from __future__ import annotations

import os
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker.consumer.connection import Connection as ConnectionStep
from celery.worker.control import Panel
from django.conf import settings
from django.core.cache import caches
from kombu import Connection

import missions.tasks  # noqa: F401  # as an agent does
from fleet.celery import app
from fleet.config import redis_address
from missions.engine.process import remote_control


class MaliciousPickle:
    """Runs code in the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os.putenv, ("FLEET_TESTS_BOMB", "exploded")


def test_values_in_the_cache_are_never_executed() -> None:
    cache: Any = caches["default"]
    key = cache.make_and_validate_key("bomb")
    redis = cache._cache._redis.get_client(key, write=True)
    redis.set(key, pickle.dumps(MaliciousPickle()), ex=60)
    try:
        assert cache.get("bomb", 0) == 0, "as without Redis, the process counts locally"
        assert os.popen("echo $FLEET_TESTS_BOMB").read().strip() == ""
        cache._cache._outage.end()
    finally:
        redis.delete(key)
    cache.set("count", 41, 60)
    assert cache.incr("count") == cache.get("count") == 42


def test_messages_are_never_executed() -> None:
    assert app.conf.accept_content == ["json"]
    assert {app.conf.task_serializer, app.conf.event_serializer, app.conf.result_serializer} == {"json"}


@pytest.mark.parametrize("command", ["conf", "dump_conf", "report"])
def test_no_agent_reveals_its_settings(command: str) -> None:
    """Flower would show them to every admin, and they contain the password of Redis."""
    result = Panel.data[command](type("State", (), {"app": app}))
    assert settings.FLEET_ENDPOINTS.redis_url not in str(result)
    assert set(result) == {"error"}


@pytest.mark.parametrize(
    "url",
    ["unix://:hush@/run/redis.sock", "redis+sentinel://:hush@a,b/M/0?sentinel_password=hush", "rediss://u:hush@a/0"],
)
def test_no_agent_reveals_the_password_of_redis_in_its_statistics(url: str) -> None:
    address = redis_address.parse(url)
    options = address.broker_options(timeout_s=2)
    connection = Connection(
        address.broker_urls[0], transport="fleet.redis.transport:Transport", transport_options=options
    )
    consumer = SimpleNamespace(connection=connection, steps=[])
    info = ConnectionStep(SimpleNamespace()).info(consumer)
    consumer.controller = SimpleNamespace(stats=lambda: {"pid": 1, **info})
    result = Panel.data["stats"](SimpleNamespace(consumer=consumer))
    assert "hush" in str(info) or url.startswith("rediss"), "Celery itself leaves only the password of a server out"
    assert "hush" not in str(result)
    assert (result["pid"], set(result["broker"])) == (1, {"transport"})


def test_agents_obey_only_the_fleets_own_orders() -> None:
    refused_commands = {name for name, command in Panel.data.items() if command is remote_control._refuse}
    assert Panel.data.keys() - refused_commands == remote_control.QUESTIONS | remote_control.ANNOUNCEMENTS
    assert {"shutdown", "terminate", "revoke", "pool_shrink", "cancel_consumer", "time_limit"} <= refused_commands
