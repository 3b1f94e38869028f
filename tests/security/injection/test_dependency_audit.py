"""Pinned dependencies are checked against a snapshot of advisories, offline; a source without data is an error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scripts import audit

NOW = datetime(2026, 1, 31, tzinfo=UTC)
FLAW = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.1"], "description": "It leaks.\nMuch."}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements.txt").write_text("leaky==2.0 \\\n    --hash=sha256:00\nsound[extra]==1.0 ; x\n")
    (tmp_path / "requirements-dev.txt").write_text("new==3.0 \\\n    --hash=sha256:00\n")
    (tmp_path / "requirements-docs.txt").write_text("")
    return tmp_path


def keep(root: Path, *dependencies: dict[str, Any]) -> None:
    (root / audit.SNAPSHOT).write_text(json.dumps(audit.snapshot_of({"dependencies": list(dependencies)}, now=NOW)))


def test_a_known_advisory_of_a_pin_fails_the_check(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(root, {"name": "leaky", "version": "2.0", "vulns": [FLAW]}, {"name": "sound", "version": "1.0", "vulns": []})
    assert audit.check(root) == 1
    output = capsys.readouterr().out
    assert "leaky 2.0: CVE-2026-1, PYSEC-2026-1, fixed in 2.1. It leaks.\n" in output
    assert "Not in the snapshot of 2026-01-31 (`make audit` renews it): new==3.0\n" in output


def test_an_advisory_that_is_ignored_with_a_reason_does_not_fail_the_check(root: Path) -> None:
    keep(root, {"name": "leaky", "version": "2.0", "vulns": [FLAW]})
    (root / audit.IGNORED).write_text("# id, reason\nCVE-2026-1 the fleet does not call it\n")
    assert audit.check(root) == 0


def test_an_advisory_for_another_version_does_not_fail_the_check(root: Path) -> None:
    keep(root, {"name": "leaky", "version": "1.9", "vulns": [FLAW]})
    assert audit.check(root) == 0


def test_without_a_snapshot_the_check_reports_that_nothing_was_audited(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.check(root) == 0
    assert "not audited" in capsys.readouterr().out


def test_a_source_that_knows_no_package_fails_the_check() -> None:
    skipped = {"name": "leaky", "skip_reason": "Dependency not found and could not be audited"}
    assert audit.snapshot_of({"dependencies": [skipped]}, now=NOW) is None


def test_the_pins_of_this_project_are_read() -> None:
    assert len(audit.pins(audit.ROOT)) > 100
    assert "django" in audit.pins(audit.ROOT)
