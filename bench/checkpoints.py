"""Measures checkpoints of a mission of 10,000 sorties: `python -m bench.checkpoints [--quick]` prints JSON."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.support import cluster

SORTIES = 10_000
RESULT_BYTES = 200
EVENTS = 100_000
CHANGED = 10


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """All measurements, on a private durable cluster."""
    services = cluster.temporary(durable=True)
    try:
        services.start()
        os.environ.update(
            {
                **services.environment(),
                "FLEET_HOME": str(services.home.root),
                "FLEET_SCRIPTED_DRIVER": "yes",
                "DJANGO_SETTINGS_MODULE": "fleet.settings",
            }
        )
        import django  # noqa: PLC0415  (the environment names the database)

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        return {"checkpoints": _measure(rounds)}
    finally:
        cluster.remove(services)


def _measure(rounds: int) -> dict[str, float]:
    from django.db import connection  # noqa: PLC0415

    from checkpoints import document, operations, storage  # noqa: PLC0415
    from checkpoints.models import Checkpoint  # noqa: PLC0415
    from missions.models import Sortie  # noqa: PLC0415
    from tests.support import fleet  # noqa: PLC0415

    plan = {f"s{number}": {"needs": [f"s{number - 1}"]} if number % 3 else {} for number in range(SORTIES)}
    mission = fleet.launch(plan)

    def execute(statement: str, *parameters: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)

    def end_all() -> None:
        execute(
            "UPDATE missions_sortie SET state = 'succeeded', finished_at = now(), started_at = now(), attempt = 1,"
            " ready_at = now() WHERE mission_id = %s",
            mission.id,
        )

    def change(ids: list[object]) -> None:
        execute("UPDATE missions_sortie SET tries = tries + 1 WHERE id = ANY (%s)", ids)
        execute(
            "INSERT INTO fleet_event (kind, scope, subject) SELECT 'sortie.waiting', mission_id, id FROM missions_sortie"
            " WHERE id = ANY (%s)",
            ids,
        )

    end_all()
    execute(
        "INSERT INTO missions_attempt (sortie_id, number, state, finished_at, result) SELECT id, 1, 'succeeded', now(),"
        " to_jsonb(left(repeat(md5(id::text), 7), %s)) FROM missions_sortie WHERE mission_id = %s",
        RESULT_BYTES,
        mission.id,
    )
    for _ in range(EVENTS // SORTIES - 1):
        execute(
            "INSERT INTO fleet_event (kind, scope, subject) SELECT 'sortie.queued', mission_id, id FROM missions_sortie"
            " WHERE mission_id = %s",
            mission.id,
        )
    execute("VACUUM ANALYZE")
    ids = list(Sortie.objects.filter(mission=mission).values_list("id", flat=True))
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
        change(ids[number * CHANGED : (number + 1) * CHANGED])
        increment = timed("incremental", operations.capture, missions=[mission.id])
        increment_bytes.append(increment.new_bytes + len(document.serialize(storage.read_manifest(increment.ref))))
        timed("diff", operations.diff, before=full, after=increment)
        if number < rounds:
            execute(
                "UPDATE missions_sortie SET tries = tries + 1 WHERE mission_id = %s", mission.id
            )  # every row differs
            ending = threading.Event()
            waits: list[float] = []
            locker = threading.Thread(target=_lock, args=(ids[0], ending, waits))
            locker.start()
            timed("restore", operations.restore, checkpoint=increment, executes=True)
            ending.set()
            locker.join()
            times["others_wait"].append(max(waits, default=0.0))
            forked = timed("fork", operations.fork, checkpoint=increment, executes=True).mission
            forked.delete()
            end_all()
            execute("UPDATE missions_mission SET state = 'running', finished_at = NULL WHERE id = %s", mission.id)
    results: dict[str, float] = {}
    for name, values in times.items():
        ordered = sorted(values)
        results[f"{name}_ms"] = statistics.median(ordered)
        results[f"{name}_p95_ms"] = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    results["incremental_share_of_bytes"] = statistics.median(increment_bytes) / statistics.median(full_bytes)
    return results


def _lock(sortie: Any, ending: threading.Event, waits: list[float]) -> None:
    """Lock a sortie of the mission again and again, as an agent does to settle it; collect the waits in milliseconds.

    Agents settle sorties of several missions in one batch, so the other missions wait as long.
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
    parser = argparse.ArgumentParser(prog="python -m bench.checkpoints", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one round")
    options = parser.parse_args()
    results: Mapping[str, Any] = measure(1 if options.quick else 4)
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
