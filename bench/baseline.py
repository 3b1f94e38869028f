"""Compare a run with bench/baseline.json, a small record of earlier figures that is part of the project.

`python -m bench.baseline keep` records the last full run of `make bench` (build/bench.json) as the new baseline;
`python -m bench.baseline compare` compares the two again. docs/bench.md describes both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import ROOT

BASELINE = ROOT / "bench" / "baseline.json"
LAST_RUN = ROOT / "build" / "bench.json"

Measures = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Figure:
    """A figure that the baseline records.

    `relative`: the ratio of two measurements of the same run, which can be compared on any machine. Other figures are
    compared only between equal machines. `tolerance`: the share by which the figure may get worse.
    """

    measure: str
    key: str
    higher_is_better: bool
    relative: bool
    tolerance: float

    @property
    def name(self) -> str:
        return f"{self.measure}.{self.key}"


def _ratios(key: str, *measures: str, higher: bool = True) -> list[Figure]:
    return [Figure(measure, key, higher, relative=True, tolerance=0.15) for measure in measures]


def _times(measure: str, *keys: str) -> list[Figure]:
    return [Figure(measure, key, False, relative=False, tolerance=0.3) for key in keys]


FIGURES = (
    *_ratios("ratio", "w1", "w2", "w3", "w3_alternating", "idle", "cpu"),
    *_ratios("ratio", "slow_w1", "slow_w2", "slow_w3", "slow_w3_alternating", "slow_idle"),
    *_ratios("ratio", "two_nodes"),
    *_ratios("of_fast", "slow_w1"),
    *_ratios("worst", "api_growth", higher=False),
    *_ratios("incremental_share_of_bytes", "checkpoints", higher=False),
    *_ratios("run_ratio", "capture_load"),
    *_ratios("noops_ratio", "capture_load"),
    *_ratios("share_of_bytes", "langgraph", higher=False),
    *_ratios("share_of_time", "langgraph", higher=False),
    *_ratios("copy_ratio", "workspaces", higher=False),
    *_ratios("together_ratio", "workspaces", higher=False),
    *_times("run", "ms_a_sortie"),
    *_times("call", "ms_a_sortie"),
    *_times("accept_10000", "seconds"),
    *_times("spawn", "p95_s", "eight_at_once_p95_s"),
    *_times("crash", "elsewhere_after_s"),
    *_times("memory", "node_agents_and_control_pss_mb"),
    *_times("api_open_loop", "read_p95_ms", "launch_p95_ms"),
    *_times("api_live", "p95_ms"),
    Figure("api_closed_loop", "reads_per_s", True, relative=False, tolerance=0.3),
    *_times("checkpoints", "create_ms", "incremental_ms", "restore_ms", "fork_ms", "others_wait_ms"),
    *_times("workspaces", "commit_ms", "landing_ms"),
    *_times("reservations", "idle_ms", "landed_ms"),
    *_times("startup", "first_s", "restart_s", "down_s"),
    Figure("missions", "per_hour", True, relative=False, tolerance=0.3),
    Figure("audit", "per_hour", True, relative=False, tolerance=0.3),
)


@dataclass(frozen=True)
class Comparison:
    """One line for each figure that got worse or better by more than its tolerance, or could not be compared."""

    regressions: list[str]
    improvements: list[str]
    not_compared: list[str]

    def lines(self) -> list[str]:
        better = [f"BETTER {line}" for line in self.improvements]
        hint = ["If these are permanent, record them: make bench-baseline"] if better else []
        missing = [f"not compared: {line}" for line in self.not_compared]
        return [*missing, *better, *hint, *(f"REGRESSION {line}" for line in self.regressions)]


def machine() -> dict[str, Any]:
    """Describe the parts of this machine that determine how long something takes."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1_000_000_000
    return {"processor": model, "cores": os.cpu_count(), "memory_gb": round(memory)}


def commit() -> str:
    """The commit that is checked out, with `+` if files differ from it."""
    revision = _git("rev-parse", "--short=12", "HEAD")
    return f"{revision}+" if _git("status", "--porcelain", "--untracked-files=no") else revision


def _git(*arguments: str) -> str:
    completed = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return completed.stdout.strip()


def run_record(*, measures: Measures, rounds: int, load: float) -> dict[str, Any]:
    """The content of build/bench.json. `load`: the load average of the last minute when the run began."""
    return {
        "recorded": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "rounds": rounds,
        "load": round(load, 2),
        "measures": measures,
    }


def compare(*, run: Mapping[str, Any], baseline: Mapping[str, Any]) -> Comparison:
    """Compare a run with a baseline, both as `run_record` returns them."""
    same_machine = run["machine"] == baseline["machine"]
    source = f"{baseline['recorded']}, commit {baseline['commit']}"
    regressions, improvements, not_compared = [], [], []
    for figure in FIGURES:
        before = baseline["measures"].get(figure.measure, {}).get(figure.key)
        now = run["measures"].get(figure.measure, {}).get(figure.key)
        if now is None:
            continue  # the run skipped this measure
        if not before:
            not_compared.append(f"{figure.name} {now:,.2f}: the baseline has no such figure")
        elif not (figure.relative or same_machine):
            not_compared.append(f"{figure.name} {now:,.2f}: the baseline was recorded on another machine")
        else:
            gain = now / before - 1 if figure.higher_is_better else 1 - now / before
            line = f"{figure.name}: {now:,.2f}, {abs(gain):.0%} {'better' if gain > 0 else 'worse'} than {before:,.2f}"
            if gain < -figure.tolerance:
                regressions.append(f"{line} ({source})")
            elif gain > figure.tolerance:
                improvements.append(f"{line} ({source})")
    return Comparison(regressions, improvements, not_compared)


def to_baseline(run: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline to record for a run: only the compared figures, to four significant digits."""
    measures: dict[str, dict[str, float]] = {}
    for figure in FIGURES:
        value = run["measures"].get(figure.measure, {}).get(figure.key)
        if value is not None:
            measures.setdefault(figure.measure, {})[figure.key] = float(f"{value:.4g}")
    return {**run, "measures": measures}


def refusal(run: Mapping[str, Any]) -> str:
    """Why a run cannot become the baseline; empty if it can."""
    if run["commit"].endswith("+"):
        return "The run was made with uncommitted changes, so no commit says what it measured. Commit, then run `make bench`."
    if run["rounds"] < 3:
        return f"The run has {run['rounds']} rounds of each measurement. A baseline needs three: run `make bench`."
    if run["load"] > run["machine"]["cores"] / 2:
        return (
            f"The machine was busy when the run began (load {run['load']}, {run['machine']['cores']} cores). "
            "Run `make bench` when it is idle."
        )
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.baseline", description=__doc__)
    parser.add_argument("action", choices=["keep", "compare"])
    options = parser.parse_args()
    if not LAST_RUN.exists():
        sys.stderr.write("There is no run to use: build/bench.json is missing. Run `make bench`.\n")
        return 1
    run = json.loads(LAST_RUN.read_text())
    if options.action == "compare":
        comparison = compare(run=run, baseline=json.loads(BASELINE.read_text()))
        sys.stdout.write("".join(f"{line}\n" for line in comparison.lines()) or "No figure got worse.\n")
        return 1 if comparison.regressions else 0
    if why := refusal(run):
        sys.stderr.write(f"{why}\n")
        return 1
    BASELINE.write_text(json.dumps(to_baseline(run), indent=1) + "\n")
    sys.stdout.write("bench/baseline.json is now the run of build/bench.json. Commit it.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
