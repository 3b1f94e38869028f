# ruff: noqa: T201  (a program for the terminal)
"""`make readiness`: write docs/production-readiness.md, the criteria for production and what was measured for each.

It reads what other `make` targets wrote (scripts/evidence.py), and stores the values in bench/readiness.json. A
criterion without a new measurement keeps its earlier value, with date and commit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts import evidence
from scripts.evidence import MeasuredValue, Source

ROOT = Path(__file__).resolve().parents[1]
STORE, PAGE = "bench/readiness.json", "docs/production-readiness.md"


@dataclass(frozen=True)
class Criterion:
    """`id` is its key in bench/readiness.json; `command` measures it anew."""

    id: str
    requirement: str
    target: str
    command: str
    source: Source


def below(limit: float) -> Callable[[float], bool]:
    return lambda value: value < limit


def at_least(limit: float) -> Callable[[float], bool]:
    return lambda value: value >= limit


def bench(id: str, requirement: str, target: str, figure: Source) -> Criterion:
    return Criterion(id, requirement, target, "make bench", figure)


def passing(
    id: str, requirement: str, *modules: str, command: str = "make test", report: str = evidence.TESTS
) -> Criterion:
    return Criterion(id, requirement, "0 failed", command, evidence.results_of(*modules, report=report))


SPEED = (
    bench(
        "api_reads",
        "95 % of the API's reads, at 60/s with 5 launches/s, are answered within 100 ms",
        "< 100 ms",
        evidence.bench_figure("api_open_loop", "read_p95_ms", "{:.0f} ms", met=below(100)),
    ),
    bench(
        "api_launches",
        "95 % of launches of 20 sorties, at the same time, are answered within 100 ms",
        "< 100 ms",
        evidence.bench_figure("api_open_loop", "launch_p95_ms", "{:.0f} ms", met=below(100)),
    ),
    bench(
        "missions_per_hour",
        "missions of 12 no-op sorties per hour",
        "≥ 50",
        evidence.bench_figure("missions", "per_hour", "{:,.0f}", met=at_least(50)),
    ),
    bench(
        "audits_per_hour",
        "sample missions (audits of this repository) per hour",
        "≥ 50",
        evidence.bench_figure("audit", "per_hour", "{:,.0f}", met=at_least(50)),
    ),
    bench(
        "two_nodes",
        "two nodes finish waiting sorties faster than one node",
        "≥ 1.8 times",
        evidence.bench_figure("two_nodes", "ratio", "{:.2f} times", met=at_least(1.8)),
    ),
    bench(
        "spawn",
        "time until a spawned agent reports, 95th percentile",
        "< 5 s",
        evidence.bench_figure("spawn", "p95_s", "{:.2f} s", met=below(5)),
    ),
    bench(
        "spawn_at_once",
        "the same for eight agents spawned at once",
        "< 5 s",
        evidence.bench_figure("spawn", "eight_at_once_p95_s", "{:.2f} s", met=below(5)),
    ),
    bench(
        "start",
        "time to start a new fleet with all its services",
        "< 30 s",
        evidence.bench_figure("startup", "first_s", "{:.1f} s", met=below(30)),
    ),
    bench(
        "start_again",
        "time to start an existing fleet with the embedded services",
        "< 10 s",
        evidence.bench_figure("startup", "restart_s", "{:.1f} s", met=below(10)),
    ),
    bench(
        "stop",
        "time to stop a fleet without leaving a process behind",
        "< 30 s",
        evidence.bench_figure("startup", "down_s", "{:.1f} s", met=below(30)),
    ),
    bench(
        "checkpoint_create",
        "time to create a checkpoint of a mission of 10,000 sorties",
        "< 500 ms",
        evidence.bench_figure("checkpoints", "create_ms", "{:.0f} ms", met=below(500)),
    ),
    bench(
        "checkpoint_restore",
        "time to restore such a mission after a change in every row",
        "< 2 s",
        evidence.bench_figure("checkpoints", "restore_ms", "{:.0f} ms", met=below(2_000)),
    ),
    bench(
        "checkpoint_increment",
        "size of an increment of ten changes, relative to a full checkpoint",
        "< 0.10",
        evidence.bench_figure("checkpoints", "incremental_share_of_bytes", "{:.3f}", met=below(0.10)),
    ),
    bench("regressions", "benchmark results that are worse than the baseline", "none", evidence.no_regression),
)

RELIABILITY = (
    passing("tests", "all tests pass", "tests"),
    passing("end_to_end", "whole fleets run missions, crash and recover", "tests.acceptance"),
    passing(
        "services",
        "services start in order, report their health, restart and stop",
        "tests.fleet.services",
        "tests.contracts",
    ),
    passing("agents", "agents are spawned, supervised, drained and recovered", "tests.agents"),
    passing("checkpoints", "checkpoints are created and restored, and damaged ones are detected", "tests.checkpoints"),
    passing(
        "drills",
        "no sortie is lost or accepted twice while agents, Postgres and Redis are killed and halted",
        "tests.drills.test_killed_services",
        "tests.drills.test_random_runs",
        "tests.drills.test_ten_thousand_sorties_under_faults",
        command="make drills",
        report=evidence.DRILLS,
    ),
    passing(
        "soak",
        "ten agents run for an hour: no process grows, and no sortie is lost or runs twice",
        "tests.drills.test_an_hour_of_work",
        command="make drills",
        report=evidence.DRILLS,
    ),
    bench(
        "overload",
        "accepted launches that are lost under overload",
        "0",
        evidence.bench_figure("api_stress", "launches_lost", "{:.0f}", met=lambda lost: lost == 0),
    ),
)

COVERAGE = (
    Criterion(
        "coverage",
        "coverage of lines and branches of the product",
        "> 90 %",
        "make coverage",
        evidence.coverage("fleet", "agents", "missions", "checkpoints", "examples", floor=90),
    ),
    Criterion(
        "coverage_services",
        "the same for the services",
        "> 90 %",
        "make coverage",
        evidence.coverage("fleet/services", floor=90),
    ),
    Criterion(
        "coverage_agents", "the same for agents", "> 85 %", "make coverage", evidence.coverage("agents", floor=85)
    ),
)

SECURITY = (
    Criterion(
        "advisories", "known advisories that affect the pinned dependencies", "0", "make audit", evidence.advisories
    ),
    Criterion(
        "static_analysis",
        "findings of static analysis (bandit)",
        "0 high, 0 medium",
        "make check",
        evidence.static_analysis,
    ),
    passing("attacks", "attempts to break in, escape the sandbox or forge data fail", "tests.security"),
    passing(
        "roles",
        "every route denies by default, and each role has exactly the documented permissions",
        "tests.api.test_role_matrix",
    ),
    Criterion(
        "rate_limit",
        "default rate limit of the API per address",
        "100/m",
        "make test",
        evidence.default_setting("FLEET_LIMIT_IP", "100/m"),
    ),
    passing("limits", "rate limits hold, even while Redis is unavailable", "tests.fleet.limits"),
    passing("audit_trail", "the audit trail is complete, and tampering is detected", "tests.fleet.audit"),
)

OPERATIONS = (
    passing(
        "from_up_to_down",
        "one mission from the start of the services to their end, with a crash in between",
        "tests.acceptance.test_from_up_to_down",
    ),
    passing(
        "containers",
        "the same in containers: missions, crashes, scaling",
        "tests.containers",
        command="make test-containers",
        report=evidence.CONTAINERS,
    ),
    passing(
        "providers",
        "services in containers are started, supervised and stopped",
        "tests.fleet.containers",
        "tests.fleet.services.test_services_in_containers",
    ),
    passing(
        "backups",
        "a backup restores everything, and a damaged one is detected",
        "tests.fleet.backup",
        "tests.acceptance.test_backups_of_a_fleet",
    ),
    passing("upgrades", "two releases work on one database, and migrations do not block on locks", "tests.upgrades"),
    passing(
        "schedules",
        "each tick of a schedule runs once",
        "tests.missions.operations.schedules",
        "tests.missions.control.test_schedules_run_once",
    ),
    passing("manifests", "the Kubernetes manifests are valid", "tests.fleet.install.test_kubernetes_manifests"),
    passing(
        "documentation",
        "every documented command runs, and documented facts match the code",
        "tests.fleet.docs",
        "tests.acceptance.test_commands_of_the_pages",
    ),
)

GROUPS = {
    "Speed": SPEED,
    "Reliability": RELIABILITY,
    "Test coverage": COVERAGE,
    "Security": SECURITY,
    "Operations": OPERATIONS,
}
CRITERIA = tuple(criterion for group in GROUPS.values() for criterion in group)

INTRODUCTION = """\
# Production readiness

This page shows which criteria for production use are met. Each row names the command that measures it; a criterion that
has not been measured counts as *no-go*. The date and commit say how old a value is. [bench.md](bench.md) explains the
speed criteria.

`make readiness` generates this page from what the other commands measured. To measure everything again, on an idle
machine with everything committed:

<!-- not run: they run the tests, and measure for hours -->
```sh
make coverage && make drills && make audit && make bench && make readiness
```
"""


def collect(root: Path) -> dict[str, MeasuredValue]:
    """Return the evidence for each criterion that has any: new if there is some, otherwise the stored one."""
    path = root / STORE
    earlier = json.loads(path.read_text()) if path.exists() else {}
    collected = {id: MeasuredValue(**fields) for id, fields in earlier.items()}
    for criterion in CRITERIA:
        measured = criterion.source(root)
        if measured is not None:
            collected[criterion.id] = measured
    return {criterion.id: collected[criterion.id] for criterion in CRITERIA if criterion.id in collected}


def render(collected: Mapping[str, MeasuredValue]) -> str:
    return "\n".join(_lines(collected))


def _lines(collected: Mapping[str, MeasuredValue]) -> Iterator[str]:
    yield INTRODUCTION
    met = sum(item.met for item in collected.values())
    missed = len(collected) - met
    verdict = "Go" if met == len(CRITERIA) else "No-go"
    missing = len(CRITERIA) - len(collected)
    yield f"**{verdict}.** {len(CRITERIA)} criteria: {met} met, {missed} not met, {missing} not measured.\n"
    for title, criteria in GROUPS.items():
        yield f"## {title}\n"
        yield "| criterion | target | measured | verdict | date, commit | command |"
        yield "|---|---|---|---|---|---|"
        for criterion in criteria:
            item = collected.get(criterion.id)
            cells = (
                (item.value, "go" if item.met else "**no-go**", f"{item.date}, `{item.commit}`")
                if item
                else ("not measured", "**no-go**", "")
            )
            yield f"| {criterion.requirement} | {criterion.target} | {' | '.join(cells)} | `{criterion.command}` |"
        yield ""


def main(root: Path = ROOT) -> int:
    collected = collect(root)
    store = {id: asdict(item) for id, item in collected.items()}
    (root / STORE).write_text(json.dumps(store, indent=1, ensure_ascii=False) + "\n")
    (root / PAGE).write_text(render(collected))
    missing = [criterion.id for criterion in CRITERIA if criterion.id not in collected]
    missed = [id for id, item in collected.items() if not item.met]
    print(f"{PAGE}: {len(collected)} of {len(CRITERIA)} criteria are measured.")
    for title, ids in (("Not met", missed), ("Not measured", missing)):
        if ids:
            print(f"{title}: {', '.join(ids)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
