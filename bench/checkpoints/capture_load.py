"""Measures the throughput that a live mission loses while it is captured once a second.

`python -m bench.checkpoints.capture_load [--quick]` prints JSON. Missions run alternately without and with captures
(A B A B), in a real fleet. Another process captures, through the operation of `fleet_checkpoint create`; it always
runs, and is idle during the missions without captures.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bench import ROOT, installation
from bench.checkpoints.json_process import JsonProcess
from bench.workloads.contenders import Fleet

EVERY_S = 1.0


@dataclass(frozen=True)
class Size:
    """How many pairs of missions run, and the number of sorties in each."""

    pairs: int
    run: int
    noops: int


FULL = Size(pairs=7, run=200, noops=10_000)
QUICK = Size(pairs=1, run=100, noops=10_000)  # fewer would end before they are captured


class Captures:
    """The process that captures missions (`capture_on_request`)."""

    def __init__(self, *, env: dict[str, str], log: Path) -> None:
        argv = [sys.executable, "-m", "bench.checkpoints.capture_load", "--captures"]
        with log.open("ab") as stderr:
            self._process = JsonProcess(argv, name="the process that captures", cwd=ROOT, env=env, stderr=stderr)
        self._process.receive()

    def begin(self, mission: UUID) -> None:
        self._process.send(str(mission))

    def end(self) -> list[float]:
        """Stop capturing after the current capture. Returns the milliseconds of each capture."""
        self._process.send(None)
        times: list[float] = self._process.receive()
        return times

    def stop(self) -> None:
        self._process.end_input()
        self._process.wait()


def capture_on_request() -> None:
    """Read the id of a mission from stdin and capture it every EVERY_S, until the next line; then print the times."""
    import django  # noqa: PLC0415  (the environment names the database)

    django.setup()
    from checkpoints import operations  # noqa: PLC0415

    def reply(value: object) -> None:
        sys.stdout.write(f"{json.dumps(value)}\n")
        sys.stdout.flush()

    reply("ready")
    while line := sys.stdin.readline():
        mission, times, due = UUID(json.loads(line)), [], time.monotonic() + EVERY_S / 2
        while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            started = time.perf_counter()
            operations.capture(missions=[mission])
            times.append((time.perf_counter() - started) * 1_000)
            due = max(due + EVERY_S, time.monotonic())
        sys.stdin.readline()
        reply(times)


def measure(size: Size) -> dict[str, float]:
    with installation.temporary() as services:
        env, log = dict(os.environ), services.home.root / "bench.log"
        fleet, captures = Fleet(env=env, log=log), Captures(env=env, log=log)
        try:
            fleet.independent(100)
            return {
                **_compare(fleet, captures, "run", size.pairs, size.run, run="true"),
                **_compare(fleet, captures, "noops", size.pairs, size.noops, driver="scripted"),
            }
        finally:
            captures.stop()
            fleet.stop()


def _compare(fleet: Fleet, captures: Captures, name: str, pairs: int, count: int, **work: str) -> dict[str, float]:
    """`…_ratio`: the throughput with captures divided by the throughput without; the median of all pairs."""
    ratios, without_s, captures_per_s, times = [], [], [], []
    for _ in range(pairs):
        without = fleet.mission(count, on_launch=lambda mission: None, **work)
        with_captures = fleet.mission(count, on_launch=captures.begin, **work)
        capture_times = captures.end()
        if not capture_times:
            raise RuntimeError(f"The mission ended after {with_captures:.2f} s, before it was captured.")
        ratios.append(without / with_captures)
        without_s.append(without)
        captures_per_s.append(len(capture_times) / with_captures)
        times += capture_times
    return {
        f"{name}_ratio": statistics.median(ratios),
        f"{name}_lost_percent": (1 - statistics.median(ratios)) * 100,
        f"{name}_per_s": count / statistics.median(without_s),
        f"{name}_captures_per_s": statistics.median(captures_per_s),
        f"{name}_capture_ms": statistics.median(times),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.checkpoints.capture_load", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one pair of small missions")
    parser.add_argument("--captures", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.captures:
        capture_on_request()
    else:
        sys.stdout.write(json.dumps({"capture_load": measure(QUICK if options.quick else FULL)}) + "\n")


if __name__ == "__main__":
    main()
