"""Eight sorties edit overlapping files of one repository concurrently. The result is one branch whose tests pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import Fleet
from tests.support import repository
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("fleet")

CALC = '"""Arithmetic."""\n\n\ndef negative(x):\n    return -x\n'
REGISTRY = "FUNCTIONS = [\n]\n"
TESTS = """
import calc, registry, unittest

class Registry(unittest.TestCase):
    def test_every_function_is_listed_once(self):
        self.assertEqual(len(registry.FUNCTIONS), len(set(registry.FUNCTIONS)))

if __name__ == "__main__":
    unittest.main()
"""
# Two sorties insert a line at the same place. The one that gets the conflict keeps both lines.
REGISTER = """
if test -n "${FLEET_CONFLICT:-}"; then
  sed -i -e '/^<<<<<<< /d' -e '/^=======$/d' -e '/^>>>>>>> /d' registry.py
else
  until test -e GO; do sleep 0.05; done
  sed -i '/FUNCTIONS = /a\\    "NAME",' registry.py
fi
"""
FUNCTION = """printf '\\n\\ndef NAME(x, y):\\n    return x SIGN y\\n' >> calc.py"""
MODULE = """mkdir -p parts; echo 'VALUE = "NAME"' > parts/NAME.py; printf 'import unittest\\nfrom parts import NAME\\n\\n
class Part(unittest.TestCase):\\n    def test(self):\\n        self.assertEqual(NAME.VALUE, "NAME")\\n' > test_NAME.py"""


@pytest.fixture
def project(fleet: Fleet) -> repository.Repository:
    files = {"calc.py": CALC, "registry.py": REGISTRY, "test_all.py": TESTS, ".gitignore": "__pycache__/\n"}
    return repository.create(fleet.home / "my project", files)


def test_eight_sorties_end_in_one_branch_whose_tests_pass(fleet: Fleet, project: repository.Repository) -> None:
    signals = fleet.home / "signals"
    signals.mkdir()
    plan = {
        "mission": "Arithmetic",
        "workspace": {"repository": ".", "verify": "python3 -m unittest -q"},
        "readable": [str(signals)],
        "sorties": {
            "plus": {"agent": "backend", "run": function("plus", "+"), "touches": ["calc.py"]},
            "minus": {"agent": "frontend", "run": function("minus", "-"), "touches": ["*.py"]},
            "register_plus": {"agent": "testing", "run": register("plus", signals)},
            "register_minus": {"agent": "security", "run": register("minus", signals)},
            **{
                f"part_{name}": {"agent": agent, "run": MODULE.replace("NAME", name)}
                for name, agent in (
                    ("a", "documentation"),
                    ("b", "performance"),
                    ("c", "documentation"),
                    ("d", "performance"),
                )
            },
        },
    }
    plan_file = fleet.home / "eight.json"
    plan_file.write_text(json.dumps(plan))
    warning = fleet.manage("fleet_mission", "validate", str(plan_file)).stderr
    assert "plus and minus both reserve *.py, and neither needs the other." in warning

    mission = fleet.launch(plan, folder=project.path)
    registering = {"register_plus", "register_minus"}
    until(lambda: registering <= running_keys(fleet, mission))
    (signals / "go").touch()
    summary = fleet.wait(mission)
    assert summary["state"] == "succeeded", [
        (item["key"], item["error"], item["waits_for"]) for item in summary["items"]
    ]

    conflicts = fleet.json("fleet_mission", "conflicts", mission)
    kinds = {row["kind"]: row for row in conflicts}
    assert kinds["predicted"]["outcome"] == "ordered"
    assert kinds["merge"]["outcome"] == "rework"
    assert kinds["merge"]["files"] == ["registry.py"]

    before = checkout(project)
    fleet.manage("fleet_mission", "merge", mission, "--into", "arithmetic", cwd=project.path)
    assert checkout(project) == before
    assert len(project.git("rev-list", "main..arithmetic", "--no-merges").splitlines()) == 8
    project.git("switch", "--quiet", "arithmetic")
    assert "def plus" in (project.path / "calc.py").read_text()
    assert "def minus" in (project.path / "calc.py").read_text()
    assert '"plus"' in (project.path / "registry.py").read_text()
    assert '"minus"' in (project.path / "registry.py").read_text()


def checkout(project: repository.Repository) -> tuple[str, str, str]:
    """The user's checkout, which no merge may change."""
    return (
        (project.path / "calc.py").read_text(),
        project.git("rev-parse", "HEAD"),
        project.git("status", "--porcelain"),
    )


def function(name: str, sign: str) -> str:
    return FUNCTION.replace("NAME", name).replace("SIGN", sign)


def register(name: str, signals: Path) -> str:
    return REGISTER.replace("NAME", name).replace("GO", f"'{signals}/go'")


def running_keys(fleet: Fleet, mission: str) -> set[str]:
    items = fleet.json("fleet_mission", "show", mission)["items"]
    return {item["key"] for item in items if item["state"] == "running"}
