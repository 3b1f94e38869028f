"""Measures copies, commits and landings in a repository with 20,000 files.

`python -m bench.repositories.workspaces [--quick]` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench import installation
from tests.support.waiting import until

FILES, FOLDERS = 20_000, 200
SORTIES = 20
VERIFY_S = 5.0
POLL_S = 0.5


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """All measurements, on a private durable cluster."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-bench-"))
    try:
        with installation.temporary():
            return {"workspaces": _measure(folder, rounds)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(folder: Path, rounds: int) -> dict[str, float]:
    from missions.models import Change, Sortie  # noqa: PLC0415
    from tests.support import fleet, repository  # noqa: PLC0415
    from tests.support.work import landing  # noqa: PLC0415

    text = "".join(f"line {number} of a source file\n" for number in range(40))
    files = {f"folder{number % FOLDERS}/file{number}.py": f"{number}\n{text}" for number in range(FILES)}
    project = repository.create(folder / "project", files)
    project.git("repack", "-adq")
    times: dict[str, list[float]] = {name: [] for name in ("worktree_add", "copy", "commit", "landing", "verify")}

    def timed(name: str, run: Callable[[], object]) -> None:
        started = time.perf_counter()
        run()
        times[name].append((time.perf_counter() - started) * 1_000)

    workspace = {"repository": str(project.path), "verify": "true"}
    keys = [f"s{number}" for number in range(5 * rounds + 1)]
    mission = fleet.launch({key: {"run": "true"} for key in keys}, workspace=workspace)
    landing.land(mission, keys[0], "echo warm > warm")
    for number, key in enumerate(keys[1:]):
        step = landing.begin(mission, key)
        worktree = folder / f"worktree{number}"
        timed("worktree_add", lambda: project.git("worktree", "add", "--quiet", "--detach", str(worktree)))  # noqa: B023
        timed("copy", lambda: step.work("true"))  # noqa: B023
        path = step.workspace.copy.path
        for file in range(3):
            with open(path / f"folder{number}" / f"file{number + file * FOLDERS}.py", "a", encoding="utf-8") as changed:
                changed.write("changed\n")
        timed("commit", step.commit)
        change = Change.objects.get(sortie_id=step.claim.id)
        other = landing.begin(mission, keys[0])  # moves the branch, so that there is something to merge
        other.work(f"echo {number} > other{number}")
        assert other.settle(other.merge(other.commit()))
        timed("landing", lambda: step.settle(step.merge(change)))  # noqa: B023
        timed("verify", lambda: step.workspace.run_command("true", output=step.output, stop=step.stop))  # noqa: B023
        assert Sortie.objects.get(id=step.claim.id).state == "succeeded"
        project.git("worktree", "remove", "--force", str(worktree))
        shutil.rmtree(path)
    results = {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    results["landing_without_verify_ms"] = results["landing_ms"] - results["verify_ms"]
    results["copy_ratio"] = results["copy_ms"] / results["worktree_add_ms"]
    together = _end_together(project.path, folder / "flag")
    return {**results, "together_s": together, "together_ratio": together / (SORTIES * VERIFY_S)}


def _end_together(project: Path, flag: Path) -> float:
    """Seconds from the moment at which all sorties end their work until the last one has landed."""
    from django.conf import settings  # noqa: PLC0415

    from fleet import ids  # noqa: PLC0415
    from missions.models import Mission, Sortie  # noqa: PLC0415
    from tests.support import fleet  # noqa: PLC0415

    run = f"touch .git/ready; until test -e {flag}; do sleep 0.1; done; echo new > new"
    mission = fleet.launch(
        {f"s{number}": {"run": run + str(number)} for number in range(SORTIES)},
        folder=str(project),
        readable=[str(flag.parent)],
        workspace={"repository": ".", "verify": f"sleep {VERIFY_S}"},
    )
    names = [
        ids.encode(ids.SORTIE, sortie) for sortie in Sortie.objects.filter(mission=mission).values_list("id", flat=True)
    ]
    engine = fleet.engine(slots=SORTIES)
    ending = threading.Event()

    def fly() -> None:
        while not ending.wait(POLL_S):  # all slots together look often enough, with no more load than in a real fleet
            engine.run_slot()

    slots = [threading.Thread(target=fly) for _ in range(SORTIES)]
    try:
        for slot in slots:
            slot.start()
            time.sleep(POLL_S / SORTIES)

        def all_work() -> bool:
            time.sleep(POLL_S)
            fleet.beat()
            return all((settings.FLEET_HOME.work / name / ".git" / "ready").exists() for name in names)

        until(all_work, within_s=300)
        flag.touch()
        started = time.perf_counter()

        def ended() -> bool:
            time.sleep(POLL_S)
            fleet.beat()
            return Mission.objects.filter(id=mission.id, finished_at__isnull=False).exists()

        until(ended, within_s=300)
        elapsed = time.perf_counter() - started
    finally:
        flag.touch()
        ending.set()
        engine.stop(within_s=30)
        for slot in slots:
            slot.join()
    assert fleet.state(mission.id) == "succeeded"
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.repositories.workspaces", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one round")
    options = parser.parse_args()
    sys.stdout.write(json.dumps(measure(1 if options.quick else 3)))


if __name__ == "__main__":
    main()
