"""An import with a workspace needs `plan.execute` and a repository that the importer may use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from checkpoints import operations
from fleet import errors
from missions.workspaces.repositories import mirrors
from tests.security.imports.imported_commits.hostile_commits import assert_refused
from tests.security.imports.tampered_exports import stored_state
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import archives
from tests.support.work.archives import OpenedExport

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_workspace_needs_plan_execute(project: Repository, exported: bytes) -> None:
    assert_refused(exported, project, "plan.execute", by=User.objects.create_user("ann"), can_execute=False, folder="")


def test_a_workspace_of_prompts_needs_plan_execute_too(project: Repository, exported: bytes) -> None:
    opened = OpenedExport.of(exported)

    def prompt(data: dict[str, Any]) -> None:
        del data["spec"]["run"]
        data["spec"].update(driver="prompt", prompt="Hello")

    opened.change("edit", prompt)
    ann = User.objects.create_user("ann")
    assert_refused(opened.reseal(), project, "plan.execute", by=ann, can_execute=False, folder="")


def test_the_importer_names_the_repository(project: Repository, exported: bytes) -> None:
    with pytest.raises(errors.Invalid, match="Name the repository with --repository"):
        archives.import_bytes(exported)
    mission = fleet.launch({"one": {"run": "true"}})
    data = archives.export(operations.capture(missions=[mission.id]))
    with pytest.raises(errors.Invalid, match="no workspace"):
        archives.import_bytes(data, repository=str(project.path))


def test_the_repository_follows_the_rules_of_a_launch(
    project: Repository, exported: bytes, settings: Any, tmp_path: Path
) -> None:
    ann = User.objects.create_user("ann")
    settings.FLEET_FOLDERS = (str(tmp_path / "folders"),)
    settings.FLEET_REPOSITORY_ROOTS = [str(tmp_path / "other"), "https://git.example.org/team"]
    for name in (str(project.path), "https://git.example.org/other/app.git", "ext::sh -c id", "file:///etc", "-x"):
        before = stored_state()
        with pytest.raises(errors.Invalid):
            archives.import_bytes(exported, by=ann, repository=name)
        assert stored_state() == before
    settings.FLEET_REPOSITORY_ROOTS = [str(tmp_path)]
    assert archives.import_bytes(exported, by=ann, repository=str(project.path)).mission.created_by == ann


def test_the_repository_must_have_the_base(project: Repository, exported: bytes, tmp_path: Path) -> None:
    other = repository.create(tmp_path / "other", {"app.py": "another history\n"})
    before = stored_state()
    with pytest.raises(errors.Invalid, match="does not have the commit"):
        archives.import_bytes(exported, repository=str(other.path))
    with pytest.raises(errors.Invalid, match="no git repository"):
        archives.import_bytes(exported, repository=str(tmp_path / "nothing"))
    assert stored_state() == before
    assert not mirrors.of(str(other.path)).exists()
