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

from bench.contenders import ROOT, Bare, Fleet
from tests.support import cluster

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


def measure(rounds: int, *, slow: Path | None) -> dict[str, Any]:
    """Everything, on a private durable cluster; with a slow disk where a library is given."""
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
            "DJANGO_SETTINGS_MODULE": "fleet.settings",
        }
        env["BARE_REDIS"] = services.environment(redis_index=5)["REDIS_URL"]
        return _measured(rounds, env, services.home.root, whole=slow is None)
    finally:
        os.environ.pop("LD_PRELOAD", None)
        cluster.remove(services)


def _measured(rounds: int, env: dict[str, str], folder: Path, *, whole: bool) -> dict[str, Any]:
    os.environ.update(env)
    import django  # noqa: PLC0415  (the environment says where the database is)

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    log = folder / "bench.log"
    fleet, bare = Fleet(env=env, log=log), Bare(env=env, log=log)
    try:
        fleet.independent(100), bare.independent(100)
        results: dict[str, Any] = {}
        a, b, ratio = median_of(rounds, lambda: fleet.independent(2_000), lambda: bare.independent(2_000))
        results["w1"] = {"fleet_per_s": 2_000 / a, "bare_per_s": 2_000 / b, "ratio": ratio}
        a, b, ratio = median_of(rounds, lambda: fleet.fans(20), lambda: bare.fans(20))
        results["w2"] = {"fleet_per_s": 1_040 / a, "bare_per_s": 1_040 / b, "ratio": ratio}
        a, b, ratio = median_of(rounds, lambda: fleet.chain(100), lambda: bare.chain(100))
        results["w3"] = {"fleet_ms": a * 10, "bare_ms": b * 10, "ratio": ratio, "hand_off": a / b}
        a, b, ratio = median_of(rounds, lambda: fleet.chain(100, alternate=True), lambda: bare.chain(100))
        results["w3_alternating"] = {"fleet_ms": a * 10, "bare_ms": b * 10, "ratio": ratio, "hand_off": a / b}
        latency = []
        for _ in range(15 if whole else 5):
            time.sleep(0.05)
            latency.append(fleet.independent(1) * 1_000)
        results["idle"] = {"p50_ms": statistics.median(latency), "worst_ms": max(latency)}
        if whole:
            before = fleet.cpu_s()
            fleet.independent(2_000)
            results["cpu"] = {"agents_ms_a_sortie": (fleet.cpu_s() - before) / 2}
            results["run"] = {"ms_a_sortie": fleet.each(40, run="true") * 1_000}
            took, grown = fleet.accept(10_000)
            results["accept_10000"] = {"seconds": took, "grown_mb": grown}
            results["memory"] = {"agents_and_control_pss_mb": fleet.memory_mb()}
        return results
    finally:
        fleet.stop()
        bare.stop()
        connection.close()


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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of each")
    parser.add_argument("--slow-disk", metavar="LIBRARY", help=argparse.SUPPRESS)
    parser.add_argument("--no-slow-disk", action="store_true", help="leave the slow disk out")
    options = parser.parse_args()
    rounds = 1 if options.quick else 3
    if options.slow_disk:
        sys.stdout.write(json.dumps(measure(rounds, slow=Path(options.slow_disk))))
        return
    results = measure(rounds, slow=None)
    with tempfile.TemporaryDirectory() as folder:
        library = None if options.no_slow_disk else slow_disk(Path(folder))
        if library is None:
            say("The slow disk is left out (no C compiler, or asked for).")
        else:
            command = [
                sys.executable,
                "-m",
                "bench",
                "--slow-disk",
                str(library),
                *(["--quick"] if options.quick else []),
            ]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            slow = json.loads(done.stdout)
            results |= {f"slow_{name}": result for name, result in slow.items()}
            results["slow_w1"]["of_fast"] = slow["w1"]["fleet_per_s"] / results["w1"]["fleet_per_s"]
    kept = ROOT / "build" / "bench"
    kept.mkdir(parents=True, exist_ok=True)
    falls = compare(results, kept)
    text = json.dumps(results, indent=1)
    (ROOT / "build" / "bench.json").write_text(text)
    (kept / f"{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(text)
    for name, result in results.items():
        say(f"{name:<20} " + "  ".join(f"{key} {value:,.2f}" for key, value in result.items()))
    for fall in falls:
        say(f"REGRESSION {fall}")


if __name__ == "__main__":
    main()
