"""Measures how long a whole fleet takes to start, to stop, and to run the sample mission on this checkout.

`python -m bench.operation [--quick]` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import ROOT

CONCURRENT_AUDITS = 3  # more than two cores can run, to measure the throughput of a busy fleet
EXTERNAL_SERVICES = ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "FLEET_REDIS_INDEX")


class Checkout:
    """A fleet of this checkout, with the embedded services and its own home."""

    def __init__(self, home: Path) -> None:
        self.env = {name: value for name, value in os.environ.items() if name not in EXTERNAL_SERVICES}
        self.env["FLEET_HOME"] = str(home)

    def time_command(self, *arguments: str) -> float:
        """Run a command that must succeed. Returns the seconds that it took."""
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.env, stdout=subprocess.DEVNULL, check=True
        )
        return time.perf_counter() - began

    def time_audits(self, count: int) -> float:
        """Launch this many audits at once. Returns the seconds until all have ended."""
        began = time.perf_counter()
        plan = ("examples/repo_audit/audit.yaml", "--param", f"repository={ROOT}", "--detach")
        for _ in range(count):
            self.time_command("fleet_mission", "run", *plan)
        self.time_command("fleet_mission", "wait")
        elapsed_s = time.perf_counter() - began
        if unsuccessful := self.unsuccessful_missions():
            raise RuntimeError(f"The sample mission did not succeed: {', '.join(unsuccessful)}.")
        return elapsed_s

    def unsuccessful_missions(self) -> list[str]:
        argv = [sys.executable, "manage.py", "fleet_mission", "list", "--json"]
        listed = subprocess.run(argv, cwd=ROOT, env=self.env, capture_output=True, text=True, check=True).stdout
        return [
            f"{mission['id']} {mission['state']}" for mission in json.loads(listed) if mission["state"] != "succeeded"
        ]


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """`startup`: `fleet_up --detach` with an empty home and with an existing one, and `fleet_down`. `audit`: the sample
    mission, alone and three at once."""
    first, restart, down = [], [], []
    alone, together = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
            fleet = Checkout(Path(folder) / "home")
            try:
                first.append(fleet.time_command("fleet_up", "--detach"))
                alone.append(fleet.time_audits(1))
                together.append(fleet.time_audits(CONCURRENT_AUDITS))
                down.append(fleet.time_command("fleet_down"))
                restart.append(fleet.time_command("fleet_up", "--detach"))
            finally:
                fleet.time_command("fleet_down")
    return {
        "startup": {
            "first_s": statistics.median(first),
            "restart_s": statistics.median(restart),
            "down_s": statistics.median(down),
        },
        "audit": {
            "alone_s": statistics.median(alone),
            "per_hour": CONCURRENT_AUDITS * 3_600 / statistics.median(together),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.operation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one round")
    options = parser.parse_args()
    sys.stdout.write(json.dumps(measure(1 if options.quick else 3)) + "\n")


if __name__ == "__main__":
    main()
