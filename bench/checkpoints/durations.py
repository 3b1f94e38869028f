"""Times each operation on checkpoints of a mission of 10,000 sorties.

`python -m bench.checkpoints.durations [--quick]` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench import installation
from bench.percentiles import percentile

SORTIES = 10_000
CHANGED = 10


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """All measurements, on a private durable cluster."""
    with installation.temporary():
        return {"checkpoints": _measure(rounds)}


def _measure(rounds: int) -> dict[str, float]:
    from bench.checkpoints.large_mission import LargeMission, execute  # noqa: PLC0415
    from checkpoints import operations  # noqa: PLC0415
    from checkpoints.files import storage  # noqa: PLC0415
    from checkpoints.models import Checkpoint  # noqa: PLC0415

    mission = LargeMission(sorties=SORTIES)
    times: dict[str, list[float]] = {
        name: [] for name in ("create", "incremental", "restore", "fork", "diff", "others_wait")
    }

    def timed(name: str, run: Callable[..., Any], **arguments: Any) -> Any:
        started = time.perf_counter()
        result = run(**arguments)
        times[name].append((time.perf_counter() - started) * 1_000)
        return result

    full_bytes, increment_bytes = [], []
    for number in range(5 * rounds):
        for checkpoint in list(Checkpoint.objects.all()):
            operations.delete(checkpoint=checkpoint)
        full = timed("create", operations.capture, missions=[mission.id])
        full_bytes.append(full.new_bytes)
        mission.change(mission.ids[number * CHANGED : (number + 1) * CHANGED])
        increment = timed("incremental", operations.capture, missions=[mission.id])
        increment_bytes.append(increment.new_bytes + storage.manifest_size(increment.ref))
        timed("diff", operations.diff, before=full, after=increment)
        if number < rounds:
            mission.change_all()
            ending = threading.Event()
            waits: list[float] = []
            locker = threading.Thread(target=_lock, args=(mission.ids[0], ending, waits))
            locker.start()
            timed("restore", operations.restore, checkpoint=increment, can_execute=True)
            ending.set()
            locker.join()
            times["others_wait"].append(max(waits, default=0.0))
            forked = timed("fork", operations.fork, checkpoint=increment, can_execute=True).mission
            forked.delete()
            mission.end_all()
            execute("UPDATE missions_mission SET state = 'running', finished_at = NULL WHERE id = %s", mission.id)
    results: dict[str, float] = {}
    for name, values in times.items():
        results[f"{name}_ms"] = statistics.median(values)
        results[f"{name}_p95_ms"] = percentile(values, 0.95)
    results["incremental_share_of_bytes"] = statistics.median(increment_bytes) / statistics.median(full_bytes)
    return results


def _lock(sortie: Any, ending: threading.Event, waits: list[float]) -> None:
    """Lock a sortie of the mission repeatedly, as an agent does to settle it, and collect the waits in milliseconds.

    Agents settle sorties of several missions in one batch, so other missions wait equally long.
    """
    from django.db import connection, transaction  # noqa: PLC0415

    from missions.models import Sortie  # noqa: PLC0415

    while not ending.wait(0.005):
        started = time.perf_counter()
        with transaction.atomic():
            Sortie.objects.select_for_update().get(id=sortie)
        waits.append((time.perf_counter() - started) * 1_000)
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.checkpoints.durations", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one round")
    options = parser.parse_args()
    results: Mapping[str, Any] = measure(1 if options.quick else 4)
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
