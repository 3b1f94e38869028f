"""Runs each workload alternately with the fleet and bare Celery, or with the fleet alone if Celery cannot run it."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import installation
from bench.percentiles import percentile
from bench.workloads.contenders import Bare, Fleet, cpu_s

ON_SLOW_DISK = frozenset({"w1", "w2", "w3", "w3_alternating", "idle"})
SLOW_DISK = Path(__file__).with_name("slowdisk.c")


def medians(rounds: int, fleet: Callable[[], float], bare: Callable[[], float]) -> tuple[float, float, float]:
    """Run both alternately (A B A B). Return both median times, and the median of bare/fleet over the pairs."""
    pairs = [(fleet(), bare()) for _ in range(rounds)]
    return (
        statistics.median(fleet_s for fleet_s, _ in pairs),
        statistics.median(bare_s for _, bare_s in pairs),
        statistics.median(bare_s / fleet_s for fleet_s, bare_s in pairs),
    )


def build_slow_disk(folder: Path) -> Path | None:
    """Build the shared library that slows Postgres's disk down (slowdisk.c); None without a C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "slowdisk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SLOW_DISK, "-ldl"], check=True)
    return library


def measure(rounds: int, *, slow: Path | None, only: frozenset[str]) -> dict[str, Any]:
    """Run all measurements, or those in `only`, on a private durable cluster; with a slow disk if `slow` is given."""
    if slow:
        os.environ["LD_PRELOAD"] = str(slow)
    with installation.temporary(FLEET_CALLABLES="bench.workloads.callables") as services:
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
        elapsed, grown = fleet.accept(10_000)
        return {"seconds": elapsed, "grown_mb": grown}

    def missions() -> dict[str, float]:
        """Missions of 12 sorties (1, then 10, then 1), forty at once."""
        return {"per_hour": 40 * 3_600 / statistics.median(fleet.fans(40, width=10) for _ in range(rounds))}

    def spawn() -> dict[str, float]:
        single = [elapsed for _ in range(7 * rounds) for elapsed in fleet.spawn(1)]
        at_once = [elapsed for _ in range(rounds) for elapsed in fleet.spawn(8)]
        return {
            "p50_s": statistics.median(single),
            "p95_s": percentile(single, 0.95),
            "eight_at_once_p95_s": percentile(at_once, 0.95),
        }

    return {
        "w1": lambda: throughput(2_000, lambda: fleet.independent(2_000), lambda: bare.independent(2_000)),
        "w2": lambda: throughput(1_040, lambda: fleet.fans(20), lambda: bare.fans(20)),
        "w3": lambda: hand_off(False),
        "w3_alternating": lambda: hand_off(True),
        "idle": idle,
        "cpu": cpu,
        "run": lambda: {"ms_a_sortie": fleet.each(40, run="true") * 1_000},
        "call": lambda: {"ms_a_sortie": fleet.each(20, call="bench.workloads.callables:nothing") * 1_000},
        "accept_10000": accept,
        "missions": missions,
        "spawn": spawn,
        "crash": lambda: {"elsewhere_after_s": statistics.median(fleet.crash() for _ in range(rounds))},
        "memory": lambda: {"node_agents_and_control_pss_mb": fleet.memory_mb()},
        "two_nodes": lambda: {"ratio": statistics.median(fleet.two_nodes() for _ in range(rounds))},
    }
