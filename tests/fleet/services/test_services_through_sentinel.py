"""With Sentinel, the fleet follows the master. Its death delays running missions, but loses nothing."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection

from fleet import errors
from fleet.config import redis_address
from fleet.limits import cache
from fleet.services.providers import probes
from tests.support.postgres.cluster import Cluster, remove, temporary
from tests.support.processes.supervised import Checkout, checkout
from tests.support.services.sentinels import Group
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("services"), pytest.mark.timeout(300)]

FAILOVER_S = 30  # on a busy machine; Valkey needs about 3 s


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    with Group(tmp_path / "redis") as started:
        yield started


@pytest.fixture
def postgres() -> Iterator[Cluster]:
    cluster = temporary(durable=False)
    try:
        cluster.start()
        yield cluster
    finally:
        remove(cluster)


def test_counts_of_requests_continue_at_the_new_master(group: Group) -> None:
    counters = cache.FallbackClient((group.url,))
    counters.set("fleet:1:x", 1, 60)
    until(lambda: group.client(group.servers[1]).get("fleet:1:x") == "1")
    group.master().kill()
    counters.set("fleet:1:x", 2, 60)  # meanwhile the process counts locally
    assert counters.get("fleet:1:x", None) == 2

    def remote() -> bool:
        counters.set("fleet:1:y", 7, 60)
        return group.client(group.servers[1]).get("fleet:1:y") == "7"

    until(remote, within_s=FAILOVER_S)


def test_a_probe_and_a_broker_connection_find_the_new_master(group: Group) -> None:
    address = redis_address.parse(group.url)

    def publish(name: str) -> None:
        with Connection(
            address.broker_urls[0],
            transport="fleet.redis.transport:SentinelTransport",
            transport_options={"socket_timeout": 5, **address.broker_options(timeout_s=2)},
        ) as connection:
            queue = connection.SimpleQueue(name)
            queue.put({"a": "hint"})
            assert queue.get(timeout=5).payload == {"a": "hint"}

    asyncio.run(probes.redis_server(group.url))
    publish("before")
    group.master().kill()
    until(lambda: group.master() is group.servers[1], within_s=FAILOVER_S)
    until(lambda: _answers(group), within_s=FAILOVER_S)  # Sentinels learn of the new master at different times
    publish("after")
    assert group.calls(group.servers[1], "brpop") > 0


def test_a_mission_survives_the_death_of_the_master_and_hints_continue(
    group: Group, postgres: Cluster, tmp_path: Path
) -> None:
    urls = {**postgres.environment(), "REDIS_URL": group.url}
    del urls["FLEET_HOME"]
    with checkout(env={**urls, "FLEET_POLL_INTERVAL_S": "40"}) as home:  # so that agents depend on hints
        home.manage("fleet_up", "--detach", timeout=200)
        mission = _launch(home, tmp_path, sorties=60)
        until(lambda: _done(home, mission) >= 10)
        first = group.master()
        assert group.calls(first, "lpush") > 0, "hints went to the first master"
        first.kill()
        killed_at = time.monotonic()
        until(lambda: group.calls(group.servers[1], "lpush") > 0, within_s=FAILOVER_S)
        hinted_after_s = time.monotonic() - killed_at
        home.manage("fleet_mission", "watch", mission, "--timeout", "90", check=False, timeout=120)
        document = home.json("fleet_mission", "show", mission)
        assert document["state"] == "succeeded", document
        with postgres.administrator() as session:
            attempts = session.execute("SELECT DISTINCT attempt FROM missions_sortie").fetchall()
        assert attempts == [(1,)], "the death of the broker costs no attempt"
        assert hinted_after_s < FAILOVER_S
        start = time.monotonic()  # agents use the new master: a hint arrives long before FLEET_POLL_INTERVAL_S
        second = _launch(home, tmp_path, sorties=1)
        until(lambda: _done(home, second) == 1)
        assert time.monotonic() - start < 30, "even on a busy machine"
        assert group.calls(group.servers[1], "brpop") > 0
        with urllib.request.urlopen(home.json("fleet_status")["urls"]["api"].replace("api/v1/", "readyz")) as response:
            assert json.load(response)["checks"]["redis"]["ok"]
        home.manage("fleet_down", timeout=60)


def _answers(group: Group) -> bool:
    try:
        asyncio.run(probes.redis_server(group.url))
    except errors.Unavailable:
        return False
    return True


def _launch(home: Checkout, folder: Path, *, sorties: int) -> str:
    plan = folder / "plan.json"
    work = {f"s{number}": {"agent": "backend", "run": "sleep 0.4"} for number in range(sorties)}
    plan.write_text(json.dumps({"mission": "A test", "sorties": work}))
    return str(home.json("fleet_mission", "run", str(plan), "--detach", cwd=folder)["id"])


def _done(home: Checkout, mission: str) -> int:
    return int(home.json("fleet_mission", "show", mission)["sorties"]["succeeded"])
