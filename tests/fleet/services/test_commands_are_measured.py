"""`make coverage` measures the commands that tests run in a warm process, like those that start as usual."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from coverage import CoverageData

from tests.support.paths import CHECKOUT
from tests.support.processes.warm import WarmProcess


def test_a_command_in_a_warm_process_is_measured_if_its_environment_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE"):  # of a run that measures the tests themselves
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "coverage.ini"
    settings.write_text(f"[run]\npatch = _exit\ndata_file = {tmp_path / 'data'}\nsource = {CHECKOUT / 'fleet'}\n")
    process = WarmProcess()
    try:
        result = process.manage("fleet_services", "--help", env={**os.environ, "COVERAGE_PROCESS_START": str(settings)})
    finally:
        process.stop()
    assert result.returncode == 0, result.stderr
    data = CoverageData(str(tmp_path / "data"))
    data.read()
    assert data.lines(str(CHECKOUT / "fleet" / "management" / "commands" / "fleet_services.py"))
