"""Ten agents at work for an hour: no process grows, and no sortie is lost or run twice.

FLEET_DRILL_SOAK_S sets another duration, in seconds.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

import pytest

from tests.acceptance.conftest import Fleet
from tests.drills.conftest import MB, measure_memory

DURATION_S = float(os.environ.get("FLEET_DRILL_SOAK_S", "3600"))
AGENTS = 10
CONCURRENT_MISSIONS = 4  # 48 sorties for 20 slots, so that every agent always has work
TYPES = ("backend", "frontend", "testing", "security", "performance", "documentation")
WORK = 'sleep 0.2; head -c 20000 /dev/urandom | base64; echo \'{"ok": true}\' > "$FLEET_RESULT"'


def plan() -> dict[str, object]:
    """Twelve sorties: one, then ten at once of all types, then one."""
    middle = {f"m{n}": {"agent": TYPES[n % 6], "run": WORK, "needs": ["first"]} for n in range(10)}
    first, last = {"agent": "backend", "run": WORK}, {"agent": "backend", "run": WORK, "needs": list(middle)}
    return {"sorties": {"first": first, **middle, "last": last}}


def work(fleet: Fleet, *, seconds: float) -> int:
    """Run missions for this long. Returns how many have ended; each sortie must succeed at its first attempt."""
    deadline, ended_missions = time.monotonic() + seconds, 0
    in_progress: deque[str] = deque()
    while in_progress or time.monotonic() < deadline:
        while len(in_progress) < CONCURRENT_MISSIONS and time.monotonic() < deadline:
            in_progress.append(fleet.launch(plan()))
        document = fleet.wait(in_progress.popleft(), seconds=300)
        assert document["state"] == "succeeded", document
        assert {item["attempt"] for item in document["items"]} == {1}, document
        ended_missions += 1
    return ended_missions


@pytest.mark.timeout(2 * DURATION_S + 600)
def test_ten_agents_work_for_an_hour_without_growing_or_losing_a_sortie(
    fleet: Fleet, report: Callable[[str], None]
) -> None:
    live = fleet.json("fleet_agents", "list")
    fleet.manage("fleet_agents", "spawn", "backend", "--count", str(AGENTS - len(live)))
    try:
        work(fleet, seconds=DURATION_S / 10)  # data that is loaded and cached once does not count as growth
        with measure_memory(fleet) as memory:
            start = time.monotonic()
            missions = work(fleet, seconds=DURATION_S * 9 / 10)
            duration_s = time.monotonic() - start
    finally:
        extra = [agent["name"] for agent in fleet.json("fleet_agents", "list") if agent["name"].startswith("backend-")]
        fleet.manage("fleet_agents", "drain", *[name for name in extra if not name.startswith("backend-1@")])
    growth = {word: memory.growth(word) for word in {word for word, _ in memory.peaks}}
    report(
        f"{missions:,} missions in {duration_s / 60:.0f} min ({missions * 3_600 / duration_s:,.0f} an hour); grown by "
        + ", ".join(f"{word} {size / MB:.0f} MB" for word, size in sorted(growth.items()))
        + f"; {memory}"
    )
    assert {word: size for word, size in growth.items() if size > 25 * MB} == {}
