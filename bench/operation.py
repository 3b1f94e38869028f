"""Measures how long an operator waits for a whole fleet to start and stop, and for the sample mission on this checkout.

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

TOGETHER = 3  # audits at once, more than two cores can run: the throughput of a busy fleet
FOREIGN = ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "FLEET_REDIS_INDEX")


class Checkout:
    """A fleet of this checkout, with the embedded services and its own home."""

    def __init__(self, home: Path) -> None:
        self.env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        self.env["FLEET_HOME"] = str(home)

    def seconds(self, *arguments: str) -> float:
        """Run a command that must succeed. Returns the seconds that it took."""
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.env, stdout=subprocess.DEVNULL, check=True
        )
        return time.perf_counter() - began

    def audits(self, count: int) -> float:
        began = time.perf_counter()
        plan = ("examples/repo_audit/audit.yaml", "--param", f"repository={ROOT}", "--detach")
        for _ in range(count):
            self.seconds("fleet_mission", "run", *plan)
        self.seconds("fleet_mission", "wait")
        return time.perf_counter() - began


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """`startup`: `fleet_up --detach` with an empty home and with an existing one, and `fleet_down`. `audit`: the sample
    mission, alone and three at once."""
    first, again, down = [], [], []
    alone, together = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
            fleet = Checkout(Path(folder) / "home")
            try:
                first.append(fleet.seconds("fleet_up", "--detach"))
                alone.append(fleet.audits(1))
                together.append(fleet.audits(TOGETHER))
                down.append(fleet.seconds("fleet_down"))
                again.append(fleet.seconds("fleet_up", "--detach"))
            finally:
                fleet.seconds("fleet_down")
    return {
        "startup": {
            "first_s": statistics.median(first),
            "again_s": statistics.median(again),
            "down_s": statistics.median(down),
        },
        "audit": {
            "alone_s": statistics.median(alone),
            "per_hour": TOGETHER * 3_600 / statistics.median(together),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.operation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one round")
    options = parser.parse_args()
    sys.stdout.write(json.dumps(measure(1 if options.quick else 3)) + "\n")


if __name__ == "__main__":
    main()
