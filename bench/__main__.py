"""`python -m bench [--quick]`: run all measurements, store the results, and compare them with the baseline."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import baseline, installation
from bench.contenders import ROOT, Bare, Fleet, cpu_s

SLOW_DISK_WORKLOADS = ("w1", "w2", "w3", "w3_alternating", "idle")
SEPARATE = (
    "api",
    "checkpoints",
    "capture_load",
    "langgraph",
    "workspaces",
    "reservations",
    "operation",
)  # modules that measure in a process of their own


def say(line: str = "") -> None:
    sys.stderr.write(line + "\n")


def medians(rounds: int, fleet: Callable[[], float], bare: Callable[[], float]) -> tuple[float, float, float]:
    """Run both in turns (A B A B). Return both median times, and the median of bare/fleet over the pairs."""
    pairs = [(fleet(), bare()) for _ in range(rounds)]
    return (
        statistics.median(fleet_s for fleet_s, _ in pairs),
        statistics.median(bare_s for _, bare_s in pairs),
        statistics.median(bare_s / fleet_s for fleet_s, bare_s in pairs),
    )


def slow_disk(folder: Path) -> Path | None:
    """Build the shared library that slows Postgres's disk down (bench/slowdisk.c); None without a C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "slowdisk.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, ROOT / "bench" / "slowdisk.c", "-ldl"], check=True
    )
    return library


def measure(rounds: int, *, slow: Path | None, only: frozenset[str]) -> dict[str, Any]:
    """Run all measurements, or those in `only`, on a private durable cluster; with a slow disk if `slow` is given."""
    if slow:
        os.environ["LD_PRELOAD"] = str(slow)
    with installation.temporary(FLEET_CALLABLES="bench.callables") as services:
        os.environ.pop("LD_PRELOAD", None)  # only the servers are slow
        env = {**os.environ, "BARE_REDIS": services.environment(redis_index=5)["REDIS_URL"]}
        log = services.home.root / "bench.log"
        fleet, bare = Fleet(env=env, log=log), Bare(env=env, log=log)
        measures = workloads(fleet, bare, rounds=rounds, servers=[services.pid("postgres"), services.pid("valkey")])
        try:
            fleet.independent(100)  # warm both up
            bare.independent(100)
            return {name: run() for name, run in measures.items() if not only or name in only}
        finally:
            fleet.stop()
            bare.stop()


def workloads(
    fleet: Fleet, bare: Bare, *, rounds: int, servers: list[int]
) -> dict[str, Callable[[], dict[str, float]]]:
    """Each measurement by its name; docs/bench.md describes them."""

    def throughput(count: int, run_fleet: Callable[[], float], run_bare: Callable[[], float]) -> dict[str, float]:
        fleet_s, bare_s, ratio = medians(rounds, run_fleet, run_bare)
        return {"fleet_per_s": count / fleet_s, "bare_per_s": count / bare_s, "ratio": ratio}

    def hand_off(alternate: bool) -> dict[str, float]:
        fleet_s, bare_s, ratio = medians(
            3 * rounds, lambda: fleet.chain(100, alternate=alternate), lambda: bare.chain(100)
        )
        # A chain has 100 links, so its seconds times 10 are the milliseconds of one hand-off.
        return {"fleet_ms": fleet_s * 10, "bare_ms": bare_s * 10, "ratio": ratio, "hand_off": 1 / ratio}

    def idle() -> dict[str, float]:
        fleet_ms, bare_ms = [], []
        for _ in range(5 * rounds):
            time.sleep(0.05)
            fleet_ms.append(fleet.independent(1) * 1_000)
            bare_ms.append(bare.independent(1) * 1_000)
        return {
            "p50_ms": statistics.median(fleet_ms),
            "worst_ms": max(fleet_ms),
            "bare_p50_ms": statistics.median(bare_ms),
            "ratio": statistics.median(bare_ms) / statistics.median(fleet_ms),
        }

    def cpu() -> dict[str, float]:
        spent = {}
        for name, contender in (("fleet", fleet), ("bare", bare)):
            before, servers_before = cpu_s(contender.pids), cpu_s(servers)
            contender.independent(2_000)  # so that half of the seconds are the milliseconds of one sortie
            spent[f"{name}_processes_ms"] = (cpu_s(contender.pids) - before) / 2
            spent[f"{name}_servers_ms"] = (cpu_s(servers) - servers_before) / 2
        totals = {name: spent[f"{name}_processes_ms"] + spent[f"{name}_servers_ms"] for name in ("fleet", "bare")}
        return {**spent, "ratio": totals["bare"] / totals["fleet"]}

    def accept() -> dict[str, float]:
        took, grown = fleet.accept(10_000)
        return {"seconds": took, "grown_mb": grown}

    def missions() -> dict[str, float]:
        """Missions of 12 sorties (1, then 10, then 1), forty at once."""
        return {"per_hour": 40 * 3_600 / statistics.median(fleet.fans(40, width=10) for _ in range(rounds))}

    def spawn() -> dict[str, float]:
        single = sorted(took for _ in range(7 * rounds) for took in fleet.spawn(1))
        eight = sorted(took for _ in range(rounds) for took in fleet.spawn(8))
        return {
            "p50_s": statistics.median(single),
            "p95_s": single[int(len(single) * 0.95)],
            "eight_at_once_p95_s": eight[int(len(eight) * 0.95)],
        }

    return {
        "w1": lambda: throughput(2_000, lambda: fleet.independent(2_000), lambda: bare.independent(2_000)),
        "w2": lambda: throughput(1_040, lambda: fleet.fans(20), lambda: bare.fans(20)),
        "w3": lambda: hand_off(False),
        "w3_alternating": lambda: hand_off(True),
        "idle": idle,
        "cpu": cpu,
        "run": lambda: {"ms_a_sortie": fleet.each(40, run="true") * 1_000},
        "call": lambda: {"ms_a_sortie": fleet.each(20, call="bench.callables:nothing") * 1_000},
        "accept_10000": accept,
        "missions": missions,
        "spawn": spawn,
        "crash": lambda: {"elsewhere_after_s": statistics.median(fleet.crash() for _ in range(rounds))},
        "memory": lambda: {"node_agents_and_control_pss_mb": fleet.memory_mb()},
        "two_nodes": lambda: {"ratio": statistics.median(fleet.two_nodes() for _ in range(rounds))},
    }


def run_in_process(module: str, *arguments: str, quick: bool) -> dict[str, Any]:
    """Run measurements in another process, with its own services and settings. Returns its results."""
    command = [sys.executable, "-m", module, *arguments, *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def show(results: dict[str, Any]) -> None:
    for name, result in results.items():
        say(f"{name:<20} " + "  ".join(f"{key} {value:,.2f}" for key, value in result.items()))


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
        sys.stdout.write(json.dumps(measure(rounds, slow=Path(options.slow_disk), only=frozenset(SLOW_DISK_WORKLOADS))))
        return 0
    if load > (os.cpu_count() or 1) / 2:
        say(f"This machine is busy (load {load:.1f}), so times will be too long. Ratios suffer less.")
    only = frozenset(options.only)
    results = measure(rounds, slow=None, only=only) if not only or only - set(SEPARATE) else {}
    for name in SEPARATE:
        if not only or name in only:
            results |= run_in_process(f"bench.{name}", quick=options.quick)
    if options.only:
        show(results)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        library = None if options.no_slow_disk else slow_disk(Path(folder))
        if library is None:
            say("The slow disk is skipped (there is no C compiler, or --no-slow-disk was given).")
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
        say(line)
    return 1 if comparison.fell and not options.quick else 0  # one round of each is not enough to judge by


if __name__ == "__main__":
    sys.exit(main())
