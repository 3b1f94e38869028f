"""The installed wheel: a user with an empty home folder flies a mission in an empty folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import fleet
from tests.support.paths import CHECKOUT
from tests.support.processes import installed_package
from tests.support.processes.installed_package import InstalledPackage

pytestmark = [pytest.mark.xdist_group("installed"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed_package.build_wheel(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def package(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstalledPackage]:
    """The wheel, with the packages of the tests' environment."""
    installation = InstalledPackage(tmp_path_factory.mktemp("installed"))
    installation.borrow_packages()
    installation.pip_install("--offline", "--no-deps", wheel)
    yield installation
    stop(installation)


def stop(installation: InstalledPackage) -> None:
    if (installation.folder / ".fleet").exists():
        installation.fleet("down", check=False, timeout=90)


def processes(installation: InstalledPackage) -> list[psutil.Process]:
    """The processes that run this installation's Python or work in its folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(installation.home.parent) in word for word in (process.exe(), *process.cmdline())):
                found.append(process)
        except psutil.Error:
            continue
    return found


def run_first_mission(installation: InstalledPackage) -> None:
    """Create a fleet, and run the commands that it prints, exactly as printed."""
    result = installation.fleet("init")
    lines = re.findall(r"^  (fleet [^ ].*?)   ", result.stderr, re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["up", "mission", "doctor", "down"]
    up, run, doctor, down = lines
    installation.shell(up, timeout=200)
    run_result = installation.shell(run, timeout=60)
    assert "succeeded" in run_result.stderr
    (report,) = (installation.folder / ".fleet" / "reports").glob("*/report/report.md")
    assert report.read_text().startswith("# First flight\n\nHello, world.\nIt ran on Linux")
    installation.shell(doctor)
    below = installation.folder / "below" / "it"
    below.mkdir(parents=True)
    (mission,) = json.loads(installation.fleet("mission", "list", "--json", cwd=below).stdout)
    assert mission["state"] == "succeeded"
    assert '"ok": true' in installation.fleet("audit", "verify", "--json", cwd=below).stdout
    installation.shell(down, timeout=90)
    assert [" ".join(process.cmdline())[:120] for process in processes(installation)] == []


def test_without_a_fleet_a_command_says_how_to_create_one_and_writes_nothing(package: InstalledPackage) -> None:
    assert package.fleet("--version").stdout == f"fleet {fleet.__version__}\n"
    assert "mission       launch missions" in package.fleet("help").stdout
    elsewhere = package.home.parent / "elsewhere"
    elsewhere.mkdir()
    assert "usage: fleet mission" in package.fleet("mission", "--help", cwd=elsewhere).stdout
    for words in (("status",), ("mission", "list"), ("migrate",)):
        result = package.fleet(*words, cwd=elsewhere, check=False)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "Create one: fleet init." in result.stderr
    assert list(elsewhere.iterdir()) == list(package.home.iterdir()) == []


def test_a_user_flies_a_mission_in_an_empty_folder(package: InstalledPackage) -> None:
    run_first_mission(package)
    assert sorted(path.name for path in package.folder.iterdir()) == [".fleet", ".flightline", "below", "plan.yaml"]
    assert [path for path in package.home.rglob("*") if path.is_file()] == [
        package.home / ".local" / "state" / "fleet" / "folders.jsonl"
    ]


def test_a_second_init_says_that_the_fleet_is_kept(package: InstalledPackage) -> None:
    package.fleet("init")
    result = package.fleet("init")
    assert f"A fleet already exists in {package.folder}; its data is kept:" in result.stderr
    assert "Created" not in result.stderr


def test_settings_of_the_folder_apply_to_every_process(package: InstalledPackage) -> None:
    package.fleet("init")
    file = package.folder / ".fleet" / "settings.env"
    file.write_text('FLEET_LOG="json"\n')
    try:
        package.fleet("up", "--detach", timeout=200)
        status = json.loads(package.fleet("services", "status", "--json").stdout)
        for name in ("control", "node", "web"):
            (pid,) = [service["pid"] for service in status["services"] if service["name"] == name]
            assert psutil.Process(pid).environ()["FLEET_LOG"] == "json"
        package.fleet("down", timeout=90)
        file.write_text("# a comment\nFLEET_LGO=json\n")
        result = package.fleet("status", check=False)
        assert result.returncode == 2
        assert f"{file}, line 2: there is no setting FLEET_LGO." in result.stderr
    finally:
        file.write_text("")


def test_a_folder_that_contains_a_fleet_is_used_only_if_the_user_created_it_there(package: InstalledPackage) -> None:
    """Work that may write to a folder could otherwise choose the settings of the user's next command."""
    unknown = package.home.parent / "unknown"
    (unknown / ".fleet").mkdir(parents=True)
    (unknown / ".fleet" / "settings.env").write_text("FLEET_SANDBOX=off\n")
    result = package.fleet("status", cwd=unknown, check=False)
    assert result.returncode == 1
    assert f"There is no fleet in {unknown} or in a folder above it." in result.stderr


@pytest.mark.drill
@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "resolved"])
def test_a_full_installation_flies_a_mission(pinned: bool, wheel: Path, tmp_path: Path) -> None:
    """With the hash-pinned requirements, and with what the wheel's own ranges allow today; both need a network."""
    installation = InstalledPackage(tmp_path)
    if pinned:
        installation.pip_install("--require-hashes", "-r", CHECKOUT / "requirements.txt")
        installation.pip_install("--no-deps", wheel)
    else:
        installation.pip_install(wheel)
    installation.uv("pip", "check", "--python", installation.python)
    try:
        run_first_mission(installation)
    finally:
        stop(installation)
