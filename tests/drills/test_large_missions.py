"""Large missions and outputs take longer, but no more memory."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.conftest import Fleet
from tests.acceptance.test_faults_of_the_fleet import check_ledger
from tests.drills.conftest import MB, measure_memory
from tests.support.paths import CHECKOUT

TYPES = ("backend", "frontend", "testing", "security", "performance", "documentation")


def test_a_gigabyte_of_output_fills_neither_memory_nor_the_database(
    fleet: Fleet, report: Callable[[str], None]
) -> None:
    shell = "echo first; yes 'a line of output' | head -c 1000000000; echo last"
    with measure_memory(fleet) as memory:
        start = time.monotonic()
        mission = fleet.launch({"sorties": {"loud": {"agent": "backend", "run": shell}}})
        document = fleet.wait(mission, seconds=600)
        duration_s = time.monotonic() - start
    assert document["state"] == "succeeded", document
    result = fleet.manage("fleet_mission", "logs", mission, "loud")
    log = result.stdout
    assert log.startswith("first\n")
    assert log.endswith("last\n")
    assert "bytes left out" in result.stderr
    assert len(log) < 3 * MB
    report(
        f"{duration_s:.0f} s; {len(log):,} characters kept; an agent grew by {memory.growth('agent') // MB} MB; {memory}"
    )
    assert memory.growth("agent") < 60 * MB


def test_a_mission_can_have_twenty_thousand_sorties(fleet: Fleet, report: Callable[[str], None]) -> None:
    middle = {
        f"m{n}": {"agent": TYPES[n % 6], "driver": "scripted", "needs": ["first"], "allow_failure": n % 100 == 0,
                  "with": {"fail": "as it should"} if n % 100 == 0 else {}}
        for n in range(19_998)
    }  # fmt: skip
    sorties = {
        "first": {"agent": "backend", "driver": "scripted"},
        **middle,
        "last": {"agent": "backend", "driver": "scripted", "needs": list(middle)},
    }
    with measure_memory(fleet) as memory:
        start = time.monotonic()
        mission = fleet.launch({"sorties": sorties})
        accepted_s = time.monotonic() - start
        fleet.manage("fleet_mission", "watch", mission, "--timeout", "900", check=False, timeout=950)
        duration_s = time.monotonic() - start - accepted_s
    document = fleet.json("fleet_mission", "show", mission)
    assert document["state"] == "succeeded", document["sorties"]
    assert (document["sorties"]["succeeded"], document["sorties"]["failed"]) == (19_800, 200)
    check_ledger(fleet, mission, succeeded={0, 1})
    report(
        f"accepted in {accepted_s:.1f} s, executed in {duration_s:.1f} s; "
        f"an agent grew by {memory.growth('agent') // MB} MB; {memory}"
    )
    assert memory.growth("agent") < 100 * MB


def test_an_audit_of_twenty_thousand_files_ends_with_a_report(
    fleet: Fleet, tmp_path: Path, report: Callable[[str], None]
) -> None:
    repository = tmp_path / "large"
    for n in range(20_000):
        file = repository / f"package{n // 200}" / f"module{n % 200}.{('py', 'js', 'css', 'md', 'txt')[n % 5]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"import os\n\ndef number_{n}(a, b=[]):\n    assert a\n    return os.system(a + {n})\n")
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "All"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    with measure_memory(fleet) as memory:
        start = time.monotonic()
        audit = str(CHECKOUT / "examples" / "repo_audit" / "audit.yaml")
        mission = fleet.json("fleet_mission", "run", audit, "--detach", "--param", f"repository={repository}")
        fleet.manage("fleet_mission", "watch", mission["id"], "--timeout", "900", check=False, timeout=950)
        duration_s = time.monotonic() - start
    document = fleet.json("fleet_mission", "show", mission["id"])
    assert document["state"] == "succeeded", [item for item in document["items"] if item["error"]]
    fleet.manage("fleet_mission", "artifacts", mission["id"], "--save", str(tmp_path / "saved"))
    reports = {path.suffix: path.stat().st_size for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert reports.keys() >= {".html", ".md"}
    report(
        f"{duration_s:.0f} s for {document['sorties']['total']} sorties; report of {reports['.html']:,} bytes; {memory}"
    )
