"""Work cannot write to the folders from which the fleet's processes import modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.work.driver_runs import DriverRun, brief


def test_work_cannot_write_where_the_fleet_looks_for_python_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `sitecustomize` in such a folder would run outside the sandbox, at the next start of any of its processes."""
    scratch, project = tmp_path / "scratch", tmp_path / "project"
    (project / "src" / "mine").mkdir(parents=True)
    (project / "src" / "mine" / "__init__.py").touch()
    scratch.mkdir()
    monkeypatch.syspath_prepend(str(project / "src"))
    shell = f"""
        echo evil > {project}/src/sitecustomize.py; rm -r {project}/src/mine; mv {project}/src {project}/aside
        echo fine > {project}/notes; cat {project}/src/mine/__init__.py
        """
    evidence = DriverRun("command", brief(scratch, shell=shell, writable=(project,))).end()
    assert evidence.ok, evidence
    assert sorted(path.name for path in project.rglob("*")) == ["__init__.py", "mine", "notes", "src"]
    attempt_brief = brief(
        scratch, shell=f"echo evil > {project}/src/mine/evil.py", writable=(project / "src" / "mine",)
    )
    assert not DriverRun("command", attempt_brief).end().ok
    assert not (project / "src" / "mine" / "evil.py").exists()
