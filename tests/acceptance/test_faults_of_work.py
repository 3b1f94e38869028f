"""Misbehaving work and unreadable plans produce one clear error each, and the fleet continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Fleet

pytestmark = pytest.mark.xdist_group("fleet")


def test_each_kind_of_misbehaviour_is_a_failure_with_its_reason(fleet: Fleet) -> None:
    cases: dict[str, tuple[dict[str, Any], str]] = {  # name: sortie, part of its error
        "not JSON": ({"run": "echo '{\"n\":' > $FLEET_RESULT"}, "is not JSON"),
        "NaN": ({"run": "echo '[NaN]' > $FLEET_RESULT"}, "is not a finite number"),
        "not UTF-8": ({"run": "printf '\"\\377\"' > $FLEET_RESULT"}, "is not JSON"),
        "too big": ({"run": "(printf '\"'; head -c 1500000 /dev/zero | tr '\\0' x; printf '\"') > $FLEET_RESULT"}, "larger"),
        "no file": ({"run": 'mkdir "$FLEET_RESULT"'}, "is not a regular file"),
        "a link": ({"run": 'ln -s /etc/hostname "$FLEET_RESULT"'}, "Write a regular file"),
        "a NUL": ({"run": "printf '\"a\\\\u0000b\"' > $FLEET_RESULT"}, "contains a NUL character"),
        "raises": ({"driver": "scripted", "with": {"raise": "boom"}}, "RuntimeError: boom"),
        "too long": ({"run": "sleep 600", "timeout": "1s"}, "longer than its timeout of 1 s"),
        "too silent": ({"run": "echo hello; sleep 600", "silence": "1s"}, "printed nothing for 1 s"),
        "claims": ({"run": "true", "verify": "echo not done >&2; exit 1"}, "not done"),
        "no output": ({"run": "true", "outputs": ["report.html"]}, "did not produce 'report.html'"),
        "no program": ({"run": ["no-such-program"]}, "was not found"),
        "asks for nonsense": ({"run": "echo '[{\"name\": \"x\"}]' > $FLEET_SORTIES"}, "x"),
        "kills itself": ({"run": "kill -9 $$"}, "SIGKILL"),
    }  # fmt: skip
    types = ("backend", "frontend", "testing", "security", "performance")
    sorties: dict[str, Any] = {
        key: {"agent": types[number % 5], **sortie} for number, (key, (sortie, _)) in enumerate(cases.items())
    }
    sorties["garbage"] = {"agent": "backend", "run": "head -c 300000 /dev/urandom"}
    sorties["third time"] = {
        "agent": "testing", "run": "exit $((3 - FLEET_TRY))",
        "retry": {"max_attempts": 3, "backoff": "0.1s"},
    }  # fmt: skip
    mission = fleet.launch({"sorties": {key.replace(" ", "-"): sortie for key, sortie in sorties.items()}})
    items = {item["key"]: item for item in fleet.wait(mission)["items"]}
    for name, (_, value) in cases.items():
        key = name.replace(" ", "-")
        assert items[key]["state"] == "failed", items[key]
        assert value in items[key]["error"], items[key]
        assert items[key]["tries"] == 1
    assert items["garbage"]["state"] == "succeeded", items["garbage"]
    assert (items["third-time"]["state"], items["third-time"]["tries"]) == ("succeeded", 2), items["third-time"]


def test_an_unreadable_plan_is_refused_in_one_sentence(fleet: Fleet) -> None:
    before = fleet.json("fleet_mission", "list")
    path = fleet.home / "unreadable.yaml"
    path.write_bytes(b"\x00\xff\xfe\x01" * 1_000)
    _refused(fleet, path)
    path.write_text("mission: [unclosed\nsorties: {")
    assert "line 2" in _refused(fleet, path)
    assert "cannot be read" in _refused(fleet, fleet.home)
    sortie = {"agent": "backend", "run": "true", "env": {"X": "x" * 5_000}}
    path.write_text(json.dumps({"mission": "Huge", "sorties": {f"s{n}": sortie for n in range(10_000)}}))
    assert path.stat().st_size > 50_000_000
    assert "10,000,000 bytes" in _refused(fleet, path)
    path.unlink()
    assert fleet.json("fleet_mission", "list") == before


def _refused(fleet: Fleet, path: Path) -> str:
    result = fleet.manage("fleet_mission", "run", str(path), check=False)
    assert result.returncode in {1, 2}, result
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 5_000
    return result.stderr
