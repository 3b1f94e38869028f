# ruff: noqa: T201  (a program for the terminal)
"""Known advisories of the pinned requirements: `audit.py refresh` asks for them, `audit.py check` compares offline.

requirements/advisories.json is the snapshot: its date, the pins that it covers, and the advisories of exactly these pins. It is
there only once a source has answered. requirements/advisories-ignored.txt has an advisory's id and the reason a line, for
those that do not touch the fleet.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PINNED = ("requirements.txt", "requirements-dev.txt")
PIP_AUDIT = "pip-audit==2.10.1"
SNAPSHOT, IGNORED = "requirements/advisories.json", "requirements/advisories-ignored.txt"


def pins(root: Path) -> dict[str, set[str]]:
    """The pinned versions of each package. A universal lock can pin two, for different Pythons."""
    found: dict[str, set[str]] = {}
    for name in PINNED:
        for package, version in re.findall(
            r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", (root / name).read_text(), re.M
        ):
            found.setdefault(package, set()).add(version)
    return found


def snapshot_of(report: dict[str, Any], *, now: datetime) -> dict[str, Any] | None:
    """What to keep of pip-audit's report; None where its source knew none of the packages, which is no answer."""
    answered = [one for one in report["dependencies"] if "skip_reason" not in one]
    if not answered:
        return None
    return {
        "date": now.date().isoformat(),
        "pins": sorted(f"{one['name']}=={one['version']}" for one in answered),
        "advisories": [
            {
                "package": one["name"],
                "version": one["version"],
                "ids": sorted({flaw["id"], *flaw["aliases"]}),
                "fixed": flaw["fix_versions"],
                "summary": (flaw.get("description") or "").strip().split("\n", 1)[0][:200],
            }
            for one in answered
            for flaw in one["vulns"]
        ],
    }


def refresh(root: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "report.json"
        tool = ("-m", "uv", "tool", "run", "--quiet", PIP_AUDIT, "--no-deps", "--disable-pip", "--progress-spinner=off")
        command = [sys.executable, *tool]
        for name in PINNED:
            command += ["-r", str(root / name)]
        done = subprocess.run([*command, "-f", "json", "-o", str(output)], capture_output=True, text=True, timeout=900)
        kept = snapshot_of(json.loads(output.read_text()), now=datetime.now(UTC)) if output.exists() else None
    if kept is None:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1] if not done.stdout else ""
        print(
            "No source of advisories answered for any package, so nothing is known about them and "
            f"{SNAPSHOT} is left as it was. Run `make audit` where the package index serves advisories. {reason}".strip(),
            file=sys.stderr,
        )
        return 1
    (root / SNAPSHOT).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    print(f"{SNAPSHOT}: {len(kept['advisories'])} advisories of {len(kept['pins'])} pins, of {kept['date']}.")
    return check(root)


def check(root: Path) -> int:
    """1 where a pin has a known advisory that is not ignored."""
    path = root / SNAPSHOT
    if not path.exists():
        print(
            "Dependencies are not audited: there is no snapshot of advisories. `make audit` makes one, with a network."
        )
        return 0
    kept = json.loads(path.read_text())
    pinned = {f"{name}=={version}" for name, versions in pins(root).items() for version in versions}
    if uncovered := sorted(pinned - set(kept["pins"])):
        print(f"Not covered by the snapshot of {kept['date']} (`make audit` renews it): {', '.join(uncovered)}")
    ignored = _ignored(root)
    known = [
        one
        for one in kept["advisories"]
        if f"{one['package']}=={one['version']}" in pinned and ignored.isdisjoint(one["ids"])
    ]
    for one in known:
        remedy = f"fixed in {', '.join(one['fixed'])}" if one["fixed"] else "not fixed yet"
        print(f"{one['package']} {one['version']}: {', '.join(one['ids'])}, {remedy}. {one['summary']}")
    if not known:
        print(f"No known advisory of {len(pinned) - len(uncovered)} pins, by the snapshot of {kept['date']}.")
    return 1 if known else 0


def _ignored(root: Path) -> set[str]:
    path = root / IGNORED
    lines: Iterable[str] = path.read_text().splitlines() if path.exists() else ()
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}


if __name__ == "__main__":
    sys.exit({"refresh": refresh, "check": check}[sys.argv[1]](ROOT))
