"""What the supervisor reports about its services: memory, crossed limits and events."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fleet.services import journal
from fleet.services.supervision.service import AlertLimits
from tests.fleet.services.supervisor_harness import SupervisorHarness, new_service


def test_a_status_measures_memory_only_on_request(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"))

    async def compare() -> None:
        await harness.supervisor._handle_request({"do": "status", "measure": False})
        assert harness.service("base")["memory_bytes"] is None
        await harness.supervisor._handle_request({"do": "status"})
        assert harness.service("base")["memory_bytes"] > 0

    assert harness.run(compare) == 0


def test_each_crossing_of_a_limit_is_reported_once(tmp_path: Path) -> None:
    flag = tmp_path / "slow"
    flag.touch()
    slow_answers = 0

    async def slow_while_the_flag_exists() -> None:
        nonlocal slow_answers
        if flag.exists():
            await asyncio.sleep(0.4)
            slow_answers += 1

    limits = AlertLimits(response_s=0.2, memory_bytes=1_000_000)
    harness = SupervisorHarness(
        tmp_path / "home", new_service("base", probe=slow_while_the_flag_exists, probe_every_s=0.02, limits=limits)
    )

    async def answer_slowly_and_then_quickly() -> None:
        for _ in range(3):  # a request for the status also measures memory
            await harness.supervisor._handle_request({"do": "status"})
        await harness.until(lambda: "service.slow" in harness.kinds())
        reported_at = slow_answers
        await harness.until(lambda: slow_answers >= reported_at + 2)
        flag.unlink()
        await harness.until(lambda: "service.normal" in harness.kinds())

    assert harness.run(answer_slowly_and_then_quickly) == 0
    assert sorted(harness.kinds()) == ["service.large", "service.normal", "service.slow"]
    (large,) = [entry for entry in journal.last(harness.home, 100) if entry.kind == "service.large"]
    assert large.data["limit"] == 1_000_000
    assert int(large.data["value"] or 0) > 1_000_000
    assert "MB of memory" in large.message


def test_events_of_an_earlier_start_are_not_shown(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"))
    journal.append(harness.home, kind="service.failed", service="base", message="It failed yesterday.", data={})
    assert harness.supervisor.status()["events"] == []
    assert harness.kinds() == ["service.failed"]  # but it is still in the journal
