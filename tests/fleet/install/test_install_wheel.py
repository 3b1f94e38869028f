"""The wheel contains everything that the project needs, and declares its requirements."""

from __future__ import annotations

import email
import zipfile

import pytest
from packaging.requirements import Requirement

import fleet
from tests.support.paths import CHECKOUT
from tests.support.processes import installed_package

PACKAGES = ("fleet", "agents", "missions", "checkpoints")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(installed_package.build_wheel(tmp_path_factory.mktemp("build")))


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(f"fleet-{fleet.__version__}.dist-info/{name}").decode()


def requirements() -> set[Requirement]:
    lines = (
        line.partition(" #")[0].strip() for line in (CHECKOUT / "requirements" / "base.in").read_text().splitlines()
    )
    return {Requirement(line) for line in lines if line and not line.startswith("#")}


def test_the_wheel_contains_every_tracked_file_of_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed
    assert packed == set(installed_package.tracked(*PACKAGES))


def test_the_wheel_requires_what_the_checkout_does_in_ranges(wheel: zipfile.ZipFile) -> None:
    required = {
        Requirement(text)
        for text in email.message_from_string(metadata(wheel, "METADATA")).get_all("Requires-Dist", [])
    }
    assert required == requirements()
    assert [str(requirement) for requirement in required if not requirement.specifier] == []


def test_every_requirement_allows_the_version_that_is_pinned() -> None:
    pinned = dict(
        line.partition(" ")[0].split("==")
        for line in (CHECKOUT / "requirements.txt").read_text().splitlines()
        if "==" in line
    )
    excluded = [
        str(requirement)
        for requirement in requirements()
        if not requirement.specifier.contains(pinned[requirement.name])
    ]
    assert excluded == []


def test_the_wheel_provides_the_program_fleet(wheel: zipfile.ZipFile) -> None:
    assert metadata(wheel, "entry_points.txt").split() == ["[console_scripts]", "fleet", "=", "fleet.command_line:run"]
