"""`python -m bench [--quick]`: run everything, print a table, keep the results."""

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

from bench.contenders import ROOT, Bare, Fleet, cpu_s
from tests.support import cluster

SLOW = ("w1", "w2", "w3", "w3_alternating", "idle")  # what is measured on the slow disk too
FALL = 0.85  # a ratio below this share of the best kept one is a regression


def say(line: str = "") -> None:
    sys.stderr.write(line + "\n")


def median_of(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float, float]:
    """Both in turns, A B A B; the medians, and the median of the ratios theirs/ours pair by pair (above 1: ours is faster)."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(b / a for a, b in pairs),
    )


def slow_disk(folder: Path) -> Path | None:
    """The object to preload into Postgres; None where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "slowdisk.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, ROOT / "bench" / "slowdisk.c", "-ldl"], check=True
    )
    return library


def measure(rounds: int, *, slow: Path | None, only: frozenset[str]) -> dict[str, Any]:
    """Everything, or only what is named, on a private durable cluster; with a slow disk where a library is given."""
    if slow:
        os.environ["LD_PRELOAD"] = str(slow)
    services = cluster.temporary(durable=True)
    try:
        services.start()
        os.environ.pop("LD_PRELOAD", None)
        env = {
            **os.environ,
            **services.environment(),
            "FLEET_HOME": str(services.home.root),
            "FLEET_SCRIPTED_DRIVER": "yes",
            "FLEET_CALLABLES": "bench.callables",
            "DJANGO_SETTINGS_MODULE": "fleet.settings",
        }
        env["BARE_REDIS"] = services.environment(redis_index=5)["REDIS_URL"]
        os.environ.update(env)
        import django  # noqa: PLC0415  (the environment says where the database is)

        django.setup()
        from django.core.management import call_command  # noqa: PLC0415
        from django.db import connection  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        log = services.home.root / "bench.log"
        fleet, bare = Fleet(env=env, log=log), Bare(env=env, log=log)
        measures = workloads(fleet, bare, rounds=rounds, servers=[services.pid("postgres"), services.pid("valkey")])
        try:
            fleet.independent(100), bare.independent(100)
            return {name: take() for name, take in measures.items() if not only or name in only}
        finally:
            fleet.stop()
            bare.stop()
            connection.close()
    finally:
        os.environ.pop("LD_PRELOAD", None)
        cluster.remove(services)


def workloads(
    fleet: Fleet, bare: Bare, *, rounds: int, servers: list[int]
) -> dict[str, Callable[[], dict[str, float]]]:
    """Each measure by its name; docs/bench.md says what each is."""

    def throughput(count: int, ours: Callable[[], float], theirs: Callable[[], float]) -> dict[str, float]:
        a, b, ratio = median_of(rounds, ours, theirs)
        return {"fleet_per_s": count / a, "bare_per_s": count / b, "ratio": ratio}

    def hand_off(alternate: bool) -> dict[str, float]:
        a, b, ratio = median_of(3 * rounds, lambda: fleet.chain(100, alternate=alternate), lambda: bare.chain(100))
        return {"fleet_ms": a * 10, "bare_ms": b * 10, "ratio": ratio, "hand_off": 1 / ratio}

    def idle() -> dict[str, float]:
        ours, theirs = [], []
        for _ in range(5 * rounds):
            time.sleep(0.05)
            ours.append(fleet.independent(1) * 1_000)
            theirs.append(bare.independent(1) * 1_000)
        return {"p50_ms": statistics.median(ours), "worst_ms": max(ours), "bare_p50_ms": statistics.median(theirs)}

    def cpu() -> dict[str, float]:
        spent = {}
        for name, one in (("fleet", fleet), ("bare", bare)):
            before, servers_before = cpu_s(one.pids), cpu_s(servers)
            one.independent(2_000)
            spent[f"{name}_processes_ms"] = (cpu_s(one.pids) - before) / 2
            spent[f"{name}_servers_ms"] = (cpu_s(servers) - servers_before) / 2
        return spent

    def accept() -> dict[str, float]:
        took, grown = fleet.accept(10_000)
        return {"seconds": took, "grown_mb": grown}

    def spawn() -> dict[str, float]:
        alone = sorted(took for _ in range(7 * rounds) for took in fleet.spawn(1))
        eight = sorted(took for _ in range(rounds) for took in fleet.spawn(8))
        return {
            "p50_s": statistics.median(alone),
            "p95_s": alone[int(len(alone) * 0.95)],
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
        "spawn": spawn,
        "crash": lambda: {"elsewhere_after_s": statistics.median(fleet.crash() for _ in range(rounds))},
        "memory": lambda: {"node_agents_and_control_pss_mb": fleet.memory_mb()},
    }


def apart(module: str, *arguments: str, quick: bool) -> dict[str, Any]:
    """What another process measures, with services and settings of its own."""
    command = [sys.executable, "-m", module, *arguments, *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare(results: dict[str, Any], kept: Path) -> list[str]:
    """Ratios that fell against the best kept run."""
    falls = []
    for name, result in results.items():
        best = max(
            (json.loads(file.read_text()).get(name, {}).get("ratio", 0.0) for file in kept.glob("*.json")), default=0.0
        )
        if "ratio" in result and result["ratio"] < best * FALL:
            falls.append(f"{name}: {result['ratio']:.2f}, and the best kept run has {best:.2f}")
    return falls


def show(results: dict[str, Any]) -> None:
    for name, result in results.items():
        say(f"{name:<20} " + "  ".join(f"{key} {value:,.2f}" for key, value in result.items()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of each")
    parser.add_argument("--slow-disk", metavar="LIBRARY", help=argparse.SUPPRESS)
    parser.add_argument("--no-slow-disk", action="store_true", help="leave the slow disk out")
    parser.add_argument(
        "--only",
        metavar="NAME",
        nargs="+",
        default=[],
        help="only these measures (api: all of the API's); nothing is kept",
    )
    options = parser.parse_args()
    rounds = 1 if options.quick else 3
    if options.slow_disk:
        sys.stdout.write(json.dumps(measure(rounds, slow=Path(options.slow_disk), only=frozenset(SLOW))))
        return
    named = frozenset(options.only)
    results = measure(rounds, slow=None, only=named) if named != {"api"} else {}
    if not named or "api" in named:
        results |= apart("bench.api", quick=options.quick)
    if options.only:
        show(results)
        return
    with tempfile.TemporaryDirectory() as folder:
        library = None if options.no_slow_disk else slow_disk(Path(folder))
        if library is None:
            say("The slow disk is left out (no C compiler, or asked for).")
        else:
            slow = apart("bench", "--slow-disk", str(library), quick=options.quick)
            results |= {f"slow_{name}": result for name, result in slow.items()}
            results["slow_w1"]["of_fast"] = slow["w1"]["fleet_per_s"] / results["w1"]["fleet_per_s"]
    kept = ROOT / "build" / "bench"
    kept.mkdir(parents=True, exist_ok=True)
    falls = compare(results, kept)
    text = json.dumps(results, indent=1)
    (ROOT / "build" / "bench.json").write_text(text)
    (kept / f"{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(text)
    show(results)
    for fall in falls:
        say(f"REGRESSION {fall}")


if __name__ == "__main__":
    main()
