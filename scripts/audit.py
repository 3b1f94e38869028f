# ruff: noqa: T201  (a program for the terminal)
"""Security advisories for the pinned requirements: `audit.py refresh` fetches them, `audit.py check` checks offline.

requirements/advisories.json is a snapshot: its date, the pins that it covers, and the advisories for those pins. It
exists only once a source has answered. Each line of requirements/advisories-ignored.txt has the id of an advisory that
does not affect the fleet, and the reason.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PINNED = ("requirements.txt", "requirements-dev.txt", "requirements-docs.txt")
PIP_AUDIT = "pip-audit==2.10.1"
SNAPSHOT, IGNORED = "requirements/advisories.json", "requirements/advisories-ignored.txt"


def pins(root: Path) -> dict[str, set[str]]:
    """Return the pinned versions of each package. A universal lock can pin two, for different Pythons."""
    versions: dict[str, set[str]] = {}
    for name in PINNED:
        for package, version in re.findall(
            r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", (root / name).read_text(), re.M
        ):
            versions.setdefault(package, set()).add(version)
    return versions


def snapshot_of(report: dict[str, Any], *, now: datetime) -> dict[str, Any] | None:
    """Convert pip-audit's report. Returns None if its source knew none of the packages, which counts as no answer."""
    packages = [package for package in report["dependencies"] if "skip_reason" not in package]
    if not packages:
        return None
    return {
        "date": now.date().isoformat(),
        "pins": sorted(f"{package['name']}=={package['version']}" for package in packages),
        "advisories": [
            {
                "package": package["name"],
                "version": package["version"],
                "ids": sorted({advisory["id"], *advisory["aliases"]}),
                "fixed": advisory["fix_versions"],
                "summary": (advisory.get("description") or "").strip().split("\n", 1)[0][:200],
            }
            for package in packages
            for advisory in package["vulns"]
        ],
    }


def refresh(root: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "report.json"
        tool = ("-m", "uv", "tool", "run", "--quiet", PIP_AUDIT, "--no-deps", "--disable-pip", "--progress-spinner=off")
        command = [sys.executable, *tool]
        for name in PINNED:
            command += ["-r", str(root / name)]
        completed = subprocess.run(
            [*command, "-f", "json", "-o", str(output)], capture_output=True, text=True, timeout=900
        )
        snapshot = snapshot_of(json.loads(output.read_text()), now=datetime.now(UTC)) if output.exists() else None
    if snapshot is None:
        reason = (
            (completed.stderr.strip().splitlines() or ["pip-audit printed nothing."])[-1]
            if not completed.stdout
            else ""
        )
        print(
            f"No advisory source knew any of the packages, so {SNAPSHOT} is unchanged. "
            f"Run `make audit` where the package index serves advisories. {reason}".strip(),
            file=sys.stderr,
        )
        return 1
    (root / SNAPSHOT).write_text(json.dumps(snapshot, indent=1, sort_keys=True) + "\n")
    count = len(snapshot["advisories"])
    print(f"{SNAPSHOT}: {count} advisories for {len(snapshot['pins'])} pins, as of {snapshot['date']}.")
    return check(root)


def check(root: Path) -> int:
    """Print the advisories that affect the current pins and are not ignored; returns 1 if there are any."""
    path = root / SNAPSHOT
    if not path.exists():
        print(f"Dependencies are not audited, because {SNAPSHOT} does not exist. Run `make audit` with a network.")
        return 0
    snapshot = json.loads(path.read_text())
    pinned = {f"{name}=={version}" for name, versions in pins(root).items() for version in versions}
    if uncovered := sorted(pinned - set(snapshot["pins"])):
        print(f"Not in the snapshot of {snapshot['date']} (`make audit` renews it): {', '.join(uncovered)}")
    advisories = affecting(root, snapshot)
    for advisory in advisories:
        remedy = f"fixed in {', '.join(advisory['fixed'])}" if advisory["fixed"] else "not fixed yet"
        ids = ", ".join(advisory["ids"])
        print(f"{advisory['package']} {advisory['version']}: {ids}, {remedy}. {advisory['summary']}")
    if not advisories:
        print(f"No known advisories for {len(pinned) - len(uncovered)} pins, as of {snapshot['date']}.")
    return 1 if advisories else 0


def affecting(root: Path, snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the advisories of a snapshot that affect the current pins and are not ignored."""
    pinned = {f"{name}=={version}" for name, versions in pins(root).items() for version in versions}
    ignored = _ignored(root)
    return [
        advisory
        for advisory in snapshot["advisories"]
        if f"{advisory['package']}=={advisory['version']}" in pinned and ignored.isdisjoint(advisory["ids"])
    ]


def _ignored(root: Path) -> set[str]:
    path = root / IGNORED
    lines: Iterable[str] = path.read_text().splitlines() if path.exists() else ()
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}


if __name__ == "__main__":
    sys.exit({"refresh": refresh, "check": check}[sys.argv[1]](ROOT))
