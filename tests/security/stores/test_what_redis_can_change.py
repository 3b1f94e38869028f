"""Someone who can write to Redis can delay work and reset counts, but cannot run code, end agents or learn settings."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import os
import pickle
import secrets
import subprocess
import sys
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker.consumer.connection import Connection as ConnectionStep
from celery.worker.control import Panel
from django.conf import settings
from django.core.cache import caches
from kombu import Connection, Consumer, Queue
from kombu.matcher import MatcherNotInstalled

import missions.tasks  # noqa: F401  # as an agent does
from fleet.celery import app
from fleet.config import redis_address
from missions.engine.process import remote_control
from tests.support.paths import CHECKOUT
from tests.support.waiting import until


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


PROPERTIES = {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": "x"}, "body_encoding": "base64"}
UNREADABLE = {
    "not JSON": b"hint",
    "not UTF-8": b"\xff",
    "too deep": b"[" * 100_000,
    "a list": b"[]",
    "no properties": b"{}",
    "other properties": b'{"properties": "x"}',
    "a strange delivery tag": json.dumps({"properties": {**PROPERTIES, "delivery_tag": {}}}).encode(),
    "not base64": json.dumps({"body": "abcde", "properties": PROPERTIES}).encode(),
}


def received_after(message: bytes, *, refused: str = "") -> list[str]:
    """The contents of the messages that a consumer gets if someone puts `message` before them into its queue.

    The consumer fails on the content `refused`.
    """
    received: list[str] = []

    def take(body: Any, delivered: Any) -> None:
        if body == refused:
            raise TypeError("this hint is strange")
        received.append(body)
        delivered.ack()

    name = f"agent.test-{secrets.token_hex(4)}"
    connection: Any
    channel: Any
    with app.connection_for_read() as connection, connection.channel() as channel:
        channel.basic_qos(0, 1, False)
        channel.client.lpush(name, message)
        producer = connection.Producer(connection.channel(), auto_declare=False)
        with Consumer(channel, queues=[Queue(name)], callbacks=[take], accept=["json"]):
            for number in range(2):
                producer.publish(f"hint {number}", exchange="", routing_key=name, serializer="json")
            while len(received) < 2:
                connection.drain_events(timeout=5)
        channel.queue_delete(name)
    return received


@pytest.mark.parametrize("message", UNREADABLE.values(), ids=UNREADABLE)
def test_a_message_that_cannot_be_read_is_discarded(message: bytes) -> None:
    """Otherwise it would end the agent that takes it."""
    assert received_after(message) == ["hint 0", "hint 1"]


def test_a_message_that_cannot_be_handled_is_discarded_and_not_counted_as_prefetched() -> None:
    strange = {"body": "InN0cmFuZ2Ui", "content-type": "application/json", "content-encoding": "utf-8"}
    message = json.dumps({**strange, "headers": {}, "properties": PROPERTIES}).encode()
    assert received_after(message, refused="strange") == ["hint 0", "hint 1"]


COMPRESSORS: dict[str, Any] = {"gzip": zlib.compress, "bzip2": bz2.compress, "lzma": lzma.compress}


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_no_compressed_message_is_decompressed(kind: str) -> None:
    """2 kB of bzip2 can take all memory of the host."""
    body = base64.b64encode(COMPRESSORS[kind](b'"bomb"')).decode()
    content = {"body": body, "content-type": "application/json", "content-encoding": "utf-8"}
    message = json.dumps({**content, "headers": {"compression": kind}, "properties": PROPERTIES}).encode()
    assert received_after(message) == ["hint 0", "hint 1"]


def test_a_key_of_another_type_ends_no_agent(subprocess_environment: dict[str, str]) -> None:
    """Celery ends a worker on errors that Redis returns, unless it is configured to connect again."""
    queue = f"agent.test-{secrets.token_hex(4)}"
    command = [sys.executable, "-m", "celery", "-A", "fleet.celery", "worker", "--pool", "threads", "--queues", queue]
    channel: Any
    with app.connection_for_write() as connection, connection.channel() as channel:
        redis = channel.client

        def refusals() -> int:
            return int(redis.info("errorstats").get("errorstat_WRONGTYPE", {}).get("count", 0))

        earlier = refusals()
        redis.set(queue, "not a list", ex=60)
        worker = subprocess.Popen(
            [*command, "--without-mingle", "--without-gossip"], cwd=CHECKOUT, env=subprocess_environment
        )
        try:
            until(lambda: refusals() > earlier + 1 or worker.poll() is not None)
            redis.delete(queue)
            connection.Producer().publish([], exchange="", routing_key=queue, serializer="json")
            until(lambda: redis.llen(queue) == 0 or worker.poll() is not None)
            assert worker.poll() is None
        finally:
            worker.kill()
            worker.wait()
            redis.delete(queue)


@pytest.mark.parametrize("kind", ["pcre", "glob"])
def test_no_command_selects_agents_by_a_pattern(kind: str) -> None:
    """A regular expression can take forever, and blocks all threads of the agent meanwhile."""
    control: Any = app.control
    node = control.mailbox.Node("backend-1@host", state=SimpleNamespace(), handlers={"ping": lambda state: "pong"})
    with pytest.raises(MatcherNotInstalled):
        node.handle_message({"method": "ping", "pattern": "*", "matcher": kind})
    assert node.handle_message({"method": "ping", "destination": ["backend-1@host"]}) == "pong"


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
