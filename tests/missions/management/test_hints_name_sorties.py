"""A hint names the sorties that it is sent for, which Flower displays; at most a few."""

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
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

QUEUE = "agent.security"


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.FLEET_ENDPOINTS.redis_url) as client:
        client.delete(QUEUE)
        yield client
        client.delete(QUEUE)


def hint_texts(broker: redis.Redis) -> list[str]:
    """The descriptions of the hints in the queue, as Flower shows them."""
    found = [json.loads(message)["headers"]["kwargsrepr"] for message in broker.lrange(QUEUE, 0, -1)]
    return sorted(found)


def test_a_launch_names_only_the_sorties_that_it_queued(broker: redis.Redis) -> None:
    first = {"agent": "security"}
    mission = fleet.launch({"a": first, "b": first, "c": {**first, "needs": ["a"]}})
    until(lambda: broker.llen(QUEUE) == 2)
    refs = sorted(sortie.ref for sortie in Sortie.objects.filter(mission=mission, key__in=["a", "b"]))
    assert hint_texts(broker) == [f"{{'sortie': '{ref}'}}" for ref in refs]


def test_the_control_loop_names_queued_sorties(broker: redis.Redis) -> None:
    mission = fleet.launch({"a": {"agent": "security"}})
    until(lambda: broker.llen(QUEUE) == 1)
    broker.delete(QUEUE)
    hint_publisher = HintPublisher(app)
    hint_publisher.start()
    hint_publisher.send(*duties.unclaimed())
    hint_publisher.stop()
    assert hint_texts(broker) == [f"{{'sortie': '{Sortie.objects.get(mission=mission).ref}'}}"]


def test_an_agent_names_the_sorties_that_it_frees(broker: redis.Redis) -> None:
    mission = fleet.launch({"a": {}, "b": {"agent": "security", "needs": ["a"]}})
    engine = fleet.engine()
    engine.hint_publisher.start()
    assert engine.run_slot() == 1
    until(lambda: broker.llen(QUEUE) == 1)
    assert hint_texts(broker) == [f"{{'sortie': '{Sortie.objects.get(mission=mission, key='b').ref}'}}"]
    engine.stop(within_s=5)
    engine.hint_publisher.stop()


def test_the_number_of_hints_and_names_is_bounded(broker: redis.Redis) -> None:
    mission = fleet.launch({f"s{n}": {"agent": "security"} for n in range(40)})
    until(lambda: broker.llen(QUEUE) == hints.MAX_AT_ONCE)
    found = hint_texts(broker)
    assert len(set(found)) == hints.MAX_AT_ONCE
    assert "{}" not in found
    assert Sortie.objects.filter(mission=mission, state="queued").count() == 40


def test_unread_hints_do_not_pile_up_and_do_not_expire(broker: redis.Redis) -> None:
    broker.lpush(QUEUE, *["an old one"] * (hints.MAX_KEPT + 20))
    fleet.launch({"a": {"agent": "security"}})
    until(lambda: broker.llen(QUEUE) == hints.MAX_KEPT)
    newest, *old = broker.lrange(QUEUE, 0, -1)
    assert set(old) == {b"an old one"}
    assert json.loads(newest)["headers"]["expires"] is None
