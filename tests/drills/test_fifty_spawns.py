"""Fifty random spawns and terminations on two hosts during a mission: in the end rows and processes agree, and each
sortie was accepted once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents import operations
from agents.models import Agent, AgentType
from fleet import errors
from missions.models import Sortie
from tests.support import fleet
from tests.support.processes import hosts
from tests.support.processes.hosts import Host
from tests.support.waiting import until

ACTIONS = 50
TYPES = ("survey", "repair", "cargo")
SORTIES = 400


@pytest.fixture(scope="module")
def pair(django_db_setup: None, django_db_blocker: Any) -> Iterator[list[Host]]:
    host_group = hosts.Hosts()
    with hosts.database(django_db_blocker), hosts.control():
        try:
            yield [host_group.add("here"), host_group.add("far")]
        finally:
            host_group.remove()


def test_fifty_random_spawns_and_terminations_lose_nothing(pair: list[Host], report: Callable[[str], None]) -> None:
    for type in TYPES:
        hosts.agent_type(type, agents=1, concurrency=2)
    mission = fleet.launch(
        {
            f"s{n:03}": {
                "agent": TYPES[n % 3], "run": "sleep 0.2; echo done", "needs": [f"s{n - 9:03}"] if n >= 9 else [],
            }
            for n in range(SORTIES)
        }
    )  # fmt: skip
    seed = time.time_ns() % 1_000
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    for _ in range(ACTIONS):
        counts[act(rng, pair)] += 1
        time.sleep(rng.uniform(0, 0.4))
    assert hosts.wait(mission, within_s=300).state == "succeeded"
    sorties = Sortie.objects.filter(mission=mission)
    assert {sortie.tries for sortie in sorties} == {0}
    AgentType.objects.filter(name__in=TYPES).update(agents=2)
    until(rows_match_processes(pair))
    report(
        f"seed {seed}: {dict(counts)}; {sum(sortie.attempt for sortie in sorties) - SORTIES} attempts lost or returned"
    )


def act(rng: random.Random, pair: list[Host]) -> str:
    """Spawn, end or kill some agents without waiting. Returns what was done."""
    action = rng.choice(["spawn", "spawn", "spawn two", "drain", "terminate", "now", "restart", "kill"])
    if action.startswith("spawn"):
        try:
            operations.spawn(
                type=rng.choice(TYPES), node=rng.choice(pair).name, count=2 if action == "spawn two" else 1
            )
        except errors.Conflict:
            return "refused: full"
        return action
    live = list(Agent.objects.filter(state__in=Agent.LIVE))
    if not live:
        return "no agents"
    agent = rng.choice(live)
    if action == "kill":
        if hosts.alive(agent):
            hosts.kill(agent)
        return action
    operations.order(agents=[agent.id], order=Agent.Order(action), reason="A random order.")
    return action


def rows_match_processes(pair: list[Host]) -> Callable[[], bool]:
    """Whether the children of each node are exactly its live agents, all of them idle, one at each post."""

    def agree() -> bool:
        for host in pair:
            rows = Agent.objects.filter(node=host.node, state__in=Agent.LIVE)
            if {row.pid for row in rows if row.state == "idle" and hosts.alive(row)} != host.children():
                return False
            if rows.exclude(state="idle").exists() or rows.count() != len({(row.type_id, row.ordinal) for row in rows}):
                return False
        return True

    return agree
