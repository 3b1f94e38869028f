"""Faults of agents, messages and control loops during a mission delay it and lose nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.celery import app
from missions import hints
from tests.acceptance.conftest import Fleet
from tests.support.paths import CHECKOUT
from tests.support.processes import running
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("fleet")


def home(fleet: Fleet) -> Path:
    return Path(fleet.env["FLEET_HOME"])


def chain(length: int, *types: str, **sortie: Any) -> dict[str, Any]:
    return {
        f"s{n}": {"agent": types[n % len(types)], "driver": "scripted", "needs": [f"s{n - 1}"] if n else [], **sortie}
        for n in range(length)
    }


def check_ledger(fleet: Fleet, mission: str, *, succeeded: Collection[int] = (1,)) -> None:
    """Check that the events are valid and match the rows, and how often each sortie has succeeded."""
    fleet.manage(
        "shell", "--no-imports", "-c",
        "from fleet import ids\nfrom tests.support.work import ledger\n"
        f"rebuilt = ledger.check(ids.decode(ids.MISSION, {mission!r}), sequential=False)\n"
        f"assert {{account.succeeded for account in rebuilt.sorties.values()}} == {set(succeeded)!r}, rebuilt",
    )  # fmt: skip


def _has_handler(pid: int, number: int) -> bool:
    """Whether a process handles a signal, by SigCgt in /proc/PID/status (proc(5))."""
    mask = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


@contextmanager
def second_control_loop(fleet: Fleet) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "manage.py", "fleet_control"], cwd=CHECKOUT, env=fleet.env, stderr=subprocess.PIPE
    ) as second:
        try:
            until(lambda: _has_handler(second.pid, signal.SIGTERM))  # it has started
            yield second.pid
        finally:
            second.terminate()
            _, text = second.communicate(timeout=60)
    assert second.returncode == 0
    assert b"Traceback" not in text, text.decode()


def test_a_sortie_that_kills_its_agent_each_time_fails_after_three_rescues(fleet: Fleet) -> None:
    mission = fleet.launch(
        {
            "sorties": {
                "killer": {
                    "agent": "documentation",
                    "driver": "scripted",
                    "with": {"kill_worker": True},
                    "retry": {"max_attempts": 9},
                },
                "next": {"agent": "backend", "needs": ["killer"], "run": "true"},
            }
        }
    )
    document = fleet.wait(mission)
    killer, after = document["items"]
    assert (killer["state"], killer["attempt"], killer["tries"]) == ("failed", 4, 0), killer
    assert "3 rescues" in killer["error"]
    assert after["state"] == "skipped"
    assert document["state"] == "failed"


def test_repeated_flushes_of_redis_lose_nothing(fleet: Fleet) -> None:
    mission = fleet.launch({"sorties": chain(16, "backend", "frontend", "testing", **{"with": {"seconds": 0.1}})})
    end = threading.Event()
    flushes = 0

    def flush() -> None:
        nonlocal flushes
        redis = running.valkey(home(fleet))
        while not end.wait(0.1):
            redis.flushall()
            flushes += 1

    flusher = threading.Thread(target=flush)
    flusher.start()
    try:
        document = fleet.wait(mission)
    finally:
        end.set()
        flusher.join()
    assert document["sorties"]["succeeded"] == 16, document
    assert flushes > 5
    check_ledger(fleet, mission)


def test_a_redis_that_delivers_nothing_loses_nothing(fleet: Fleet) -> None:
    redis = running.valkey(home(fleet))
    redis.client_pause(60_000, all=False)  # it answers pings, but neither accepts nor delivers messages
    try:
        mission = fleet.launch({"sorties": chain(3, "backend", "frontend")})
        document = fleet.wait(mission)
        assert redis.ping()
    finally:
        redis.client_unpause()
    assert document["state"] == "succeeded", document
    check_ledger(fleet, mission)


def test_repeated_messages_start_nothing_twice(fleet: Fleet) -> None:
    redis, hint = running.valkey(home(fleet)), a_hint(queue="agent.frontend")
    sortie = {"agent": "frontend", "driver": "scripted", "with": {"seconds": 0.05}}
    mission = fleet.launch({"sorties": {f"s{n}": sortie for n in range(20)}})
    watcher = threading.Thread(target=fleet.wait, args=[mission])
    watcher.start()
    while watcher.is_alive():
        redis.lpush("agent.frontend", *[hint] * 5)
        watcher.join(0.05)
    document = fleet.wait(mission)
    assert document["sorties"]["succeeded"] == 20, document
    check_ledger(fleet, mission)


def a_hint(*, queue: str) -> bytes:
    """The bytes of a message as the fleet sends them, taken from a queue that nobody reads."""
    unused_queue = "agent.nobody"
    with app.connection_for_write() as connection:
        app.send_task(hints.TASK_NAME, queue=unused_queue, connection=connection)
        channel: Any = connection.default_channel  # of the Redis transport
        _, message = channel.client.brpop(unused_queue)
    return bytes(message).replace(unused_queue.encode(), queue.encode())


def test_two_control_loops_admit_wake_and_complete_each_row_once(fleet: Fleet) -> None:
    one_at_a_time: dict[str, Any] = {
        "agent": "backend", "driver": "scripted", "with": {"fail_times": 1},
        "retry": {"max_attempts": 2, "backoff": "0.2s"}, "concurrency": {"key": "one", "limit": 1},
    }  # fmt: skip
    sorties = {f"s{n}": one_at_a_time for n in range(3)}
    join = {"agent": "frontend", "driver": "scripted", "needs": list(sorties)}
    with second_control_loop(fleet):
        mission = fleet.launch({"sorties": {**sorties, "join": join}})
        document = fleet.wait(mission)
    assert document["sorties"]["succeeded"] == 4, document
    assert [item["tries"] for item in document["items"]] == [1, 1, 1, 0]
    check_ledger(fleet, mission)
    overlaps = running.rows(
        home(fleet),
        "SELECT count(*) FROM missions_attempt a JOIN missions_sortie s ON s.id = a.sortie_id"
        " JOIN missions_attempt b ON b.started_at > a.started_at AND b.started_at < a.finished_at"
        " JOIN missions_sortie t ON t.id = b.sortie_id"
        " WHERE s.concurrency_key = 'one' AND t.concurrency_key = 'one'",
    )
    assert overlaps == [(0,)]
