"""Compares checkpoints with those of langgraph-checkpoint-postgres.

`python -m bench.checkpoints.langgraph [--quick]` prints JSON. Both store the same changes of the same sorties on the
same Postgres, alternately. The library gets its own virtualenv below build/, which is kept; without it the comparison
is skipped. docs/bench.md says what each stores and guarantees.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import ROOT, installation
from bench.checkpoints.json_process import JsonProcess
from tests.support.postgres.cluster import Cluster

PACKAGES = ("langgraph-checkpoint-postgres", "psycopg[binary]")
VIRTUALENV = ROOT / "build" / "langgraph"
CONTENDER = Path(__file__).with_name("langgraph_contender.py")
FULL_LAYOUTS = ("one", "bucket", "sortie")  # each checkpoint has the whole state
LAYOUTS = (*FULL_LAYOUTS, "delta")
CHANGED = 10
BATCH_SIZE = 10  # consecutive checkpoints of one contender
INSTALL_S = 300


@dataclass(slots=True)
class StorageStats:
    """The cost of a contender's checkpoints: the first, full one, and those of ten changes each."""

    first_s: float = 0.0
    first_bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    bytes: int = 0


def install(folder: Path) -> str:
    """Install the library into a virtualenv, unless it is there; returns why that failed, or an empty text."""
    python = folder / "bin" / "python"
    check = [str(python), "-I", "-c", "import langgraph.checkpoint.postgres"]
    if python.exists() and subprocess.run(check, capture_output=True, check=False).returncode == 0:
        return ""
    try:
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
        subprocess.run(pip, capture_output=True, text=True, timeout=INSTALL_S, check=True)
        subprocess.run(check, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr or error).strip().splitlines()
        return lines[-1] if lines else "pip failed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ""


class Library:
    """The library with one layout, in a process and a database of its own."""

    def __init__(self, services: Cluster, *, layout: str, state: dict[str, dict[str, Any]]) -> None:
        database = f"langgraph_{layout}"
        with services.administrator() as session:
            session.execute(f"CREATE DATABASE {database} OWNER fleet_owner")
        argv: list[str | Path] = [VIRTUALENV / "bin" / "python", "-I", CONTENDER]
        self._process = JsonProcess(argv, name="langgraph-checkpoint-postgres")
        url = services.environment(database=database)["DATABASE_OWNER_URL"]
        self._process.send({"url": url, "layout": layout, "state": state})
        first = self._process.receive()
        self.version: str = first["version"]
        self.stats = StorageStats(first_s=first["first_s"], first_bytes=first["first_bytes"])

    def store(self, changes: Sequence[Sequence[int]]) -> None:
        self._process.send([[f"s{number}" for number in change] for change in changes])
        self.stats.seconds += self._process.receive()

    def finish(self) -> None:
        self._process.end_input()
        self.stats.bytes = self._process.receive()["bytes"]
        self._process.wait()

    def stop(self) -> None:
        self._process.kill()


class FleetCheckpoints:
    """Our checkpoints of the mission."""

    def __init__(self, sorties: int) -> None:
        from bench.checkpoints.large_mission import LargeMission  # noqa: PLC0415  (Django must be set up first)

        self._mission = LargeMission(sorties=sorties)
        self._empty = _stored_bytes()
        self.stats = StorageStats()

    def state(self) -> dict[str, dict[str, Any]]:
        """The state, number of tries and result of each sortie."""
        from missions.models import Attempt  # noqa: PLC0415

        rows = Attempt.objects.filter(sortie__mission=self._mission.id).values_list(
            "sortie__key", "sortie__state", "sortie__tries", "result"
        )
        return {key: {"state": state, "tries": tries, "result": result} for key, state, tries, result in rows}

    def store_first(self) -> None:
        self.stats.first_s = self._capture()
        self.stats.first_bytes = _stored_bytes() - self._empty

    def store(self, changes: Sequence[Sequence[int]]) -> None:
        for change in changes:
            self._mission.change([self._mission.ids[number] for number in change])
            self.stats.seconds.append(self._capture())

    def finish(self) -> None:
        from checkpoints import operations  # noqa: PLC0415
        from checkpoints.files import storage  # noqa: PLC0415
        from checkpoints.models import Checkpoint  # noqa: PLC0415
        from checkpoints.rows import reading  # noqa: PLC0415

        self.stats.bytes = _stored_bytes() - self._empty - self.stats.first_bytes
        checkpoints = Checkpoint.objects.order_by("-id")
        assert len(checkpoints) == len(self.stats.seconds) + 1
        with reading.snapshot():
            digest = reading.mission(self._mission.id).digest()
        last = checkpoints[0]
        if operations.verify(checkpoints=[last]) or storage.read_manifest(last.ref).missions[0].digest != digest:
            raise RuntimeError("The last checkpoint does not have the state of the mission.")

    def _capture(self) -> float:
        from checkpoints import operations  # noqa: PLC0415

        began = time.perf_counter()
        operations.capture(missions=[self._mission.id])
        return time.perf_counter() - began


def _stored_bytes() -> int:
    """The bytes of all checkpoints: disk blocks of files, the table with its indexes, events and audit entries."""
    from django.conf import settings  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    from bench.checkpoints.large_mission import vacuum  # noqa: PLC0415

    vacuum("checkpoints_checkpoint")
    files = sum(path.stat().st_blocks * 512 for path in settings.FLEET_CHECKPOINTS.rglob("*"))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_total_relation_size('checkpoints_checkpoint')"
            " + (SELECT coalesce(sum(pg_column_size(e)), 0) FROM fleet_event e WHERE kind LIKE 'checkpoint.%%')"
            " + (SELECT coalesce(sum(pg_column_size(e)), 0) FROM fleet_audit.entry e WHERE kind LIKE 'checkpoint.%%')"
        )
        (rows,) = cursor.fetchone()
    return files + int(rows)


def measure(*, sorties: int, checkpoints: int) -> dict[str, float]:
    with installation.temporary() as services:
        fleet = FleetCheckpoints(sorties)
        libraries: dict[str, Library] = {}
        try:
            for layout in LAYOUTS:
                libraries[layout] = Library(services, layout=layout, state=fleet.state())
            fleet.store_first()
            numbers = [n % sorties for n in range(checkpoints * CHANGED)]
            changes = [numbers[start : start + CHANGED] for start in range(0, len(numbers), CHANGED)]
            contenders: list[FleetCheckpoints | Library] = [fleet, *libraries.values()]
            for start in range(0, checkpoints, BATCH_SIZE):
                for contender in contenders:
                    contender.store(changes[start : start + BATCH_SIZE])
            for contender in contenders:
                contender.finish()
        finally:
            for library in libraries.values():
                library.stop()
    sys.stderr.write(f"langgraph-checkpoint-postgres {libraries['one'].version}\n")
    return compare(fleet.stats, {layout: library.stats for layout, library in libraries.items()})


def compare(ours: StorageStats, theirs: Mapping[str, StorageStats]) -> dict[str, float]:
    """Our bytes and seconds divided by those of each layout. `share_of_…`: our worst ratio to one of FULL_LAYOUTS."""
    results: dict[str, float] = {}
    for layout, stored in theirs.items():
        results[f"bytes_of_{layout}"] = ours.bytes / stored.bytes
        results[f"time_of_{layout}"] = sum(ours.seconds) / sum(stored.seconds)
    for kind in ("bytes", "time"):
        results[f"share_of_{kind}"] = max(results[f"{kind}_of_{layout}"] for layout in FULL_LAYOUTS)
    for name, stored in {"fleet": ours, **theirs}.items():
        results[f"{name}_kb"] = stored.bytes / len(stored.seconds) / 1_000
        results[f"{name}_ms"] = statistics.median(stored.seconds) * 1_000
        results[f"{name}_first_kb"] = stored.first_bytes / 1_000
        results[f"{name}_first_ms"] = stored.first_s * 1_000
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.checkpoints.langgraph", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="store ten checkpoints of 1,000 sorties")
    options = parser.parse_args()
    results: dict[str, float] = {}
    if why := install(VIRTUALENV):
        sys.stderr.write(f"langgraph is skipped, because its library cannot be installed: {why}\n")
    elif options.quick:
        results = measure(sorties=1_000, checkpoints=10)
    else:
        results = measure(sorties=10_000, checkpoints=100)
    sys.stdout.write(json.dumps({"langgraph": results}) + "\n")


if __name__ == "__main__":
    main()
