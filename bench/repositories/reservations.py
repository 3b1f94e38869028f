"""Measures one pass of admission with 1,000 reservations in force and 10,000 sorties that wait for them.

`python -m bench.repositories.reservations [--quick]` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench import installation

IN_FORCE, WAITING = 1_000, 10_000


def measure(rounds: int) -> dict[str, float]:
    """All measurements, on a private durable cluster."""
    with installation.temporary(), tempfile.TemporaryDirectory() as folder:
        from tests.support import repository  # noqa: PLC0415  (Django must be set up first)

        project = repository.create(Path(folder) / "project", {"README.md": "A project\n"})
        return _measure(str(project.path), rounds)


def _measure(project: str, rounds: int) -> dict[str, float]:
    """`idle`: nothing has changed. `landed`: a sortie has just ended, and those that waited for it compete again."""
    from django.db import connection  # noqa: PLC0415

    from agents.models import Agent  # noqa: PLC0415
    from missions.control import admission  # noqa: PLC0415
    from missions.models import Sortie  # noqa: PLC0415
    from missions.operations import external_agents  # noqa: PLC0415
    from tests.support import fleet  # noqa: PLC0415

    agent = external_agents.register(agent_type="backend")
    Agent.objects.filter(id=agent.id).update(state="spawning")  # so that it counts as serving its type
    plan = {f"s{number}": {"touches": [f"src/part{number % IN_FORCE}/**"]} for number in range(IN_FORCE + WAITING)}
    fleet.launch(plan, workspace={"repository": project})
    passes = 0
    while Sortie.objects.filter(state="ready", blocked_by=None).exists():
        admission.admit()
        passes += 1
    assert Sortie.objects.filter(state="queued").count() == IN_FORCE
    times: dict[str, list[float]] = {"idle": [], "landed": []}
    for _ in range(rounds):
        for name, values in times.items():
            if name == "landed":
                with connection.cursor() as cursor:
                    cursor.execute(
                        "UPDATE missions_sortie SET state = 'succeeded', finished_at = clock_timestamp()"
                        " WHERE id = (SELECT id FROM missions_sortie WHERE state = 'queued' ORDER BY turn LIMIT 1)"
                    )
            started = time.perf_counter()
            admission.admit()
            values.append((time.perf_counter() - started) * 1_000)
    return {"passes": passes, **{f"{name}_ms": statistics.median(values) for name, values in times.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.repositories.reservations", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run three rounds")
    options = parser.parse_args()
    sys.stdout.write(json.dumps({"reservations": measure(3 if options.quick else 15)}) + "\n")


if __name__ == "__main__":
    main()
