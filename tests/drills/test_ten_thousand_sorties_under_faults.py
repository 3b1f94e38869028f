"""Ten thousand sorties under random failures: none is lost, accepted twice or started early, and attempts of one sortie
never overlap, by the event log and by the lines that attempts write. FLEET_DRILL_SORTIES sets another number."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fleet import ids
from tests.acceptance.conftest import Fleet, running
from tests.acceptance.test_faults_of_the_fleet import check_ledger, home
from tests.drills.faults import Clock, FaultInjector
from tests.support.processes import running as processes
from tests.support.waiting import until
from tests.support.work import overlaps

SORTIES = int(os.environ.get("FLEET_DRILL_SORTIES", "10000"))
TYPES = ("backend", "frontend", "testing", "security", "performance", "documentation")
FAULTS_END_AT = 0.95  # the share of sorties that have succeeded when the faults end
LONGEST_S = 900 + SORTIES  # ten times the duration without faults
SCRIPT = f"""#!/bin/sh
[ -z "$3" ] || trap '' TERM HUP
n=0
while {overlaps.RECORD_TIME.format(path='"$1"')}; [ $n -lt $2 ]; do n=$((n + 1)); sleep 0.1; done
"""


@pytest.fixture
def clock() -> Iterator[Clock]:
    if shutil.which("cc") is None:
        pytest.skip("the library that sets the clock needs a C compiler")
    folder = Path(tempfile.mkdtemp(prefix="fleet-clock-"))
    yield Clock(folder)
    shutil.rmtree(folder)


@pytest.fixture
def faulty_fleet(clock: Clock) -> Iterator[Fleet]:
    with running(
        restored_from=None, FLEET_CALLABLES="tests.support.work.writing", FLEET_MAX_RESCUES="1000",
        FLEET_MAX_CRASHES="100000", FLEET_POSTGRES_TIMEOUT_S="1", **clock.environment,
    ) as fleet:  # fmt: skip
        yield fleet


def plan(script: Path, written: Path) -> dict[str, Any]:
    """Forty parallel chains that join now and then, of commands, callables and verifications. Some ignore SIGTERM."""
    sorties: dict[str, Any] = {}
    for number in range(SORTIES):
        tenths = number * 7 % 9
        command = ["sh", str(script), str(written), str(tenths), "deaf" if number % 10 == 3 else ""]
        match number % 20:
            case 0:
                work = {"call": "tests.support.work.writing:note", "with": {"path": str(written), "tenths": tenths}}
            case 1:
                work = {"run": command, "verify": command}
            case _:
                work = {"run": command}
        needs = {number - 40, *(range(number - 70, number - 60) if number % 100 == 99 else ())}
        sorties[f"s{number}"] = {
            "agent": TYPES[number % 6], "needs": [f"s{need}" for need in sorted(needs) if need >= 0], **work,
        }  # fmt: skip
    return {"sorties": sorties, "defaults": {"retry": {"max_attempts": 20, "backoff": "0.2s", "factor": 1}}}


@pytest.mark.timeout(2 * LONGEST_S)
def test_each_sortie_runs_once_at_a_time_and_is_accepted_once(
    faulty_fleet: Fleet, clock: Clock, report: Callable[[str], None]
) -> None:
    written, script = faulty_fleet.home / "written", faulty_fleet.home / "script"
    script.write_text(SCRIPT)
    submitted_plan = plan(script, written)
    mission = faulty_fleet.launch(submitted_plan)
    seed = time.time_ns() % 100_000
    start = time.monotonic()
    injector = FaultInjector(home(faulty_fleet), rng=random.Random(seed), clock=clock, every_s=(0.3, 2.5))
    injector.start()
    try:
        until(lambda: succeeded(faulty_fleet, mission) >= FAULTS_END_AT * SORTIES or injector.error, within_s=LONGEST_S)
    finally:
        injector.end.set()
        injector.join()
    assert injector.error is None, injector.error
    until(lambda: has_ended(faulty_fleet, mission), within_s=LONGEST_S)
    took_s = time.monotonic() - start
    document = faulty_fleet.json("fleet_mission", "show", mission, "--all")
    attempts = sum(item["attempt"] for item in document["items"])
    report(
        f"seed {seed}: {SORTIES} sorties in {took_s:.0f} s under {sum(injector.counts.values())} faults {dict(injector.counts)}; "
        f"{attempts - SORTIES} attempts more than one each"
    )
    assert document["sorties"]["succeeded"] == SORTIES, [i for i in document["items"] if i["state"] != "succeeded"][:10]
    check_ledger(faulty_fleet, mission)
    spans = {ids.decode(ids.SORTIE, sortie): attempts for sortie, attempts in overlaps.check(written).items()}
    spans_by_key = {item["key"]: spans[ids.decode(ids.SORTIE, item["id"])] for item in document["items"]}
    for item in document["items"]:
        assert item["attempt"] in spans_by_key[item["key"]], f"{item['key']}: the accepted attempt has written nothing"
        for need in submitted_plan["sorties"][item["key"]]["needs"]:
            ended_at = max(last for _, last in spans_by_key[need].values())
            started_at = min(first for first, _ in spans_by_key[item["key"]].values())
            assert ended_at <= started_at, f"{item['key']} started at {started_at}, {need} wrote until {ended_at}"


def count(fleet: Fleet, query: str, mission: str) -> int:
    """A number that a query returns; 0 while Postgres does not answer."""
    with suppress(psycopg.Error, OSError, ValueError):
        return int(processes.rows(home(fleet), query, ids.decode(ids.MISSION, mission))[0][0])
    return 0


def succeeded(fleet: Fleet, mission: str) -> int:
    return count(fleet, "SELECT count(*) FROM missions_sortie WHERE mission_id = %s AND state = 'succeeded'", mission)


def has_ended(fleet: Fleet, mission: str) -> int:
    return count(fleet, "SELECT count(*) FROM missions_mission WHERE id = %s AND finished_at IS NOT NULL", mission)
