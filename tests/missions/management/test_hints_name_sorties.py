"""A hint names a sortie that it is sent for, for whoever looks at it in Flower; at most a few, whatever the number."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings

from fleet.celery import app
from missions import hints
from missions.control import duties
from missions.hints import HintPublisher
from missions.models import Sortie
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

QUEUE = "agent.security"


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.FLEET_ENDPOINTS.redis_url) as client:
        client.delete(QUEUE)
        yield client
        client.delete(QUEUE)


def named(broker: redis.Redis) -> list[str]:
    """What the hints in the queue say that they are for; Flower shows the same."""
    found = [json.loads(message)["headers"]["kwargsrepr"] for message in broker.lrange(QUEUE, 0, -1)]
    return sorted(found)


def test_a_launch_names_what_it_queued_and_not_what_has_to_wait(broker: redis.Redis) -> None:
    first = {"agent": "security"}
    mission = fleet.launch({"a": first, "b": first, "c": {**first, "needs": ["a"]}})
    fleet.until(lambda: broker.llen(QUEUE) == 2)
    refs = sorted(sortie.ref for sortie in Sortie.objects.filter(mission=mission, key__in=["a", "b"]))
    assert named(broker) == [f"{{'sortie': '{ref}'}}" for ref in refs]


def test_the_control_loop_names_what_waits(broker: redis.Redis) -> None:
    mission = fleet.launch({"a": {"agent": "security"}})
    fleet.until(lambda: broker.llen(QUEUE) == 1)
    broker.delete(QUEUE)
    hint_publisher = HintPublisher(app)
    hint_publisher.start()
    hint_publisher.send(*duties.unclaimed())
    hint_publisher.stop()
    assert named(broker) == [f"{{'sortie': '{Sortie.objects.get(mission=mission).ref}'}}"]


def test_an_agent_that_frees_something_names_it(broker: redis.Redis) -> None:
    mission = fleet.launch({"a": {}, "b": {"agent": "security", "needs": ["a"]}})
    engine = fleet.engine()
    engine.hint_publisher.start()
    assert engine.fly() == 1
    fleet.until(lambda: broker.llen(QUEUE) == 1)
    assert named(broker) == [f"{{'sortie': '{Sortie.objects.get(mission=mission, key='b').ref}'}}"]
    engine.stop(within_s=5)
    engine.hint_publisher.stop()


def test_no_more_hints_and_names_than_are_of_use(broker: redis.Redis) -> None:
    mission = fleet.launch({f"s{n}": {"agent": "security"} for n in range(40)})
    fleet.until(lambda: broker.llen(QUEUE) == hints.MAX_AT_ONCE)
    found = named(broker)
    assert len(set(found)) == hints.MAX_AT_ONCE
    assert "{}" not in found
    assert Sortie.objects.filter(mission=mission, state="queued").count() == 40


def test_hints_that_nobody_takes_do_not_pile_up_and_no_clock_ends_them(broker: redis.Redis) -> None:
    broker.lpush(QUEUE, *["an old one"] * (hints.MAX_KEPT + 20))
    fleet.launch({"a": {"agent": "security"}})
    fleet.until(lambda: broker.llen(QUEUE) == hints.MAX_KEPT)
    newest, *old = broker.lrange(QUEUE, 0, -1)
    assert set(old) == {b"an old one"}
    assert json.loads(newest)["headers"]["expires"] is None
