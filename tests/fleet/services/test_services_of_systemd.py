"""The units of systemd that the project ships, and what a process tells systemd."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.config.home import Home
from fleet.services import process_table
from fleet.services.supervision import beats
from fleet.services.supervision.service import AlertLimits
from tests.support.paths import CHECKOUT

UNITS = CHECKOUT / "deploy" / "systemd"
SINGLE = sorted(UNITS.glob("fleet-*.service"))
EXPOSURE = {
    "fleet-node.service": 5.2,
    "fleet.service": 5.2,
}  # higher for units whose sandbox needs namespaces; 2.0 for the others


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units on a host where their program exists, which the check of systemd requires."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    for unit in UNITS.glob("fleet*.[st]*"):
        text = unit.read_text().replace("/opt/fleet/.venv/bin/python", sys.executable)
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_systemd_accepts_every_unit(installed: Path) -> None:
    kinds = {".service", ".socket", ".target", ".timer"}
    units = sorted(str(path) for path in installed.glob("fleet*.[st]*") if path.suffix in kinds)
    assert len(units) == len(SINGLE) + 4  # including the whole fleet, its target and timer, and the site's socket
    result = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.parametrize("name", [*(unit.name for unit in SINGLE), "fleet.service"])
def test_the_units_have_a_low_exposure_score(installed: Path, name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE.get(name, 2.0) * 10:.0f}"]
    result = subprocess.run([*command, str(installed / name)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout[-200:] + result.stderr


def test_there_is_a_unit_for_each_process_of_a_fleet_with_the_same_command(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_folders()
    processes = process_table.table(
        base=CHECKOUT, home=home, limits=AlertLimits(), web_port=8000, say=lambda line: None
    )
    names = {"prepare": "migrate"}
    for process in processes:
        unit = (UNITS / f"fleet-{names.get(process.name, process.name)}.service").read_text()
        (started,) = re.findall(r"^ExecStart=/opt/fleet/\.venv/bin/python (.*)$", unit, re.MULTILINE)
        assert process.command is not None
        command = process.command()
        program = str(CHECKOUT / "fleet" / "__main__.py")  # which manage.py executes
        words = ["manage.py" if word == program else word for word in command.argv[1:] if word != "-P"]
        assert started.split() == ["3" if word.isdigit() else word for word in words]  # systemd's first socket
        own = {name: value for name, value in command.env.items() if name == "FLEET_PROCESS"}
        assert all(f"Environment={name}={value}\n" in unit for name, value in own.items())
    assert {unit.stem.removeprefix("fleet-") for unit in SINGLE} - {"backup"} == {
        names.get(process.name, process.name) for process in processes
    }


def test_a_stopped_fleet_does_not_count_as_failed() -> None:
    assert "\nSuccessExitStatus=130\n" in (UNITS / "fleet.service").read_text(), "fleet_up ends with 130 at SIGTERM"


def test_only_migrations_and_backups_get_the_owners_password() -> None:
    readers = {unit.name for unit in SINGLE if "EnvironmentFile=/etc/fleet/owner.env" in unit.read_text()}
    assert readers == {"fleet-migrate.service", "fleet-backup.service"}


def test_the_unit_of_the_node_permits_what_its_sandbox_needs() -> None:
    settings = re.findall(r"^(\w+)=", (UNITS / "fleet-node.service").read_text(), re.MULTILINE)
    excluded_features = {
        "RestrictNamespaces", "PrivateUsers", "SystemCallFilter", "MemoryDenyWriteExecute", "ProtectProc", "ProcSubset",
        "ProtectKernelTunables", "ProtectKernelLogs", "ProtectControlGroups",
    }  # fmt: skip
    assert excluded_features.isdisjoint(settings)
    assert "Delegate" in settings


@pytest.mark.parametrize("unit", [*SINGLE, UNITS / "fleet.service"], ids=lambda unit: unit.name)
def test_no_unit_forbids_openat2(unit: Path) -> None:
    """RestrictSUIDSGID= forbids it, because it cannot check modes there. beneath.py opens files with openat2."""
    assert "RestrictSUIDSGID" not in unit.read_text()


def test_a_beat_tells_systemd_that_the_process_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    home.create_folders()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        beats.beat(home, "fleet_node")
        assert systemd.recv(100).split() == [b"READY=1", b"WATCHDOG=1"]


def test_a_beat_reaches_an_abstract_address_and_survives_a_lost_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.create_folders()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{tmp_path}")
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
        beats.beat(home, "fleet_node")
        assert systemd.recv(100)
    beats.beat(home, "fleet_node")
