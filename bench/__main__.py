"""`python -m bench [--quick]`: run all measurements, store the results, and compare them with the baseline."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import ROOT, baseline
from bench.workloads import measures

SEPARATE = {
    "api": "bench.web.api",
    "checkpoints": "bench.checkpoints.durations",
    "capture_load": "bench.checkpoints.capture_load",
    "langgraph": "bench.checkpoints.langgraph",
    "workspaces": "bench.repositories.workspaces",
    "reservations": "bench.repositories.reservations",
    "operation": "bench.operation",
}  # measurements that run in their own process, and their modules


def log(line: str = "") -> None:
    sys.stderr.write(line + "\n")


def run_in_process(module: str, *arguments: str, quick: bool) -> dict[str, Any]:
    """Run measurements in another process, with its own services and settings. Returns its results."""
    command = [sys.executable, "-m", module, *arguments, *(["--quick"] if quick else [])]
    completed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    results: dict[str, Any] = json.loads(completed.stdout)
    return results


def show(results: dict[str, Any]) -> None:
    for name, result in results.items():
        log(f"{name:<20} " + "  ".join(f"{key} {value:,.2f}" for key, value in result.items()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one round of each measurement")
    parser.add_argument("--slow-disk", metavar="LIBRARY", help=argparse.SUPPRESS)
    parser.add_argument("--no-slow-disk", action="store_true", help="skip the measurements on a slow disk")
    parser.add_argument(
        "--only",
        metavar="NAME",
        nargs="+",
        default=[],
        help=f"only these measurements, or all of one of {', '.join(SEPARATE)}; results are not stored",
    )
    options = parser.parse_args()
    rounds, load = 1 if options.quick else 3, os.getloadavg()[0]
    if options.slow_disk:
        sys.stdout.write(json.dumps(measures.measure(rounds, slow=Path(options.slow_disk), only=measures.ON_SLOW_DISK)))
        return 0
    if load > (os.cpu_count() or 1) / 2:
        log(f"This machine is busy (load {load:.1f}), so times will be too long. Ratios are affected less.")
    only = frozenset(options.only)
    results = measures.measure(rounds, slow=None, only=only) if not only or only - set(SEPARATE) else {}
    for name, module in SEPARATE.items():
        if not only or name in only:
            results |= run_in_process(module, quick=options.quick)
    if options.only:
        show(results)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        library = None if options.no_slow_disk else measures.build_slow_disk(Path(folder))
        if library is None:
            log("The slow disk is skipped (there is no C compiler, or --no-slow-disk was given).")
        else:
            slow = run_in_process("bench", "--slow-disk", str(library), quick=options.quick)
            results |= {f"slow_{name}": result for name, result in slow.items()}
            results["slow_w1"]["of_fast"] = slow["w1"]["fleet_per_s"] / results["w1"]["fleet_per_s"]
    history = ROOT / "build" / "bench"
    history.mkdir(parents=True, exist_ok=True)
    run = baseline.run_record(measures=results, rounds=rounds, load=load)
    text = json.dumps(run, indent=1)
    baseline.LAST_RUN.write_text(text)
    (history / f"{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(text)
    show(results)
    comparison = baseline.compare(run=run, baseline=json.loads(baseline.BASELINE.read_text()))
    for line in comparison.lines():
        log(line)
    return 1 if comparison.regressions and not options.quick else 0  # one round of each is too little evidence


if __name__ == "__main__":
    sys.exit(main())
