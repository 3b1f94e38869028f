"""Repositories that work of other missions can change, or that a client chooses, must not lead git elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User

from fleet import errors
from missions import operations, plan
from missions.models import Mission, Template
from missions.operations.workspaces import merging
from missions.queries import plan_context
from tests.support import fleet, repository
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)

LANDED = "echo new > new.txt"


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann")


@pytest.fixture
def roots(tmp_path: Path, settings: Any) -> Path:
    folder = tmp_path / "repositories"
    folder.mkdir()
    settings.FLEET_REPOSITORY_ROOTS = [str(folder), "https://git.example.org/team", "git@git.example.org:team"]
    return folder


def launch(
    *,
    by: User | None,
    template: str = "",
    params: Any = None,
    inputs: Any = None,
    folder: str = "",
    **workspace: Any,
) -> Mission:
    sorties = {"edit": {"agent": "backend", "run": "true"}}
    text = yaml.safe_dump({"mission": "A test", "inputs": inputs or {}, "workspace": workspace, "sorties": sorties})
    loaded = plan.load(text=text, context=plan_context.current())
    return operations.launch(
        plan=loaded, text=text, params=params or {}, folder=folder, by=by, can_execute=True, template=template
    )


def hook(repository: Repository, folder: str, trap: Path) -> None:
    path = repository.path / folder / "hooks" / "pre-receive"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\ntouch {trap}\n")
    path.chmod(0o755)


# ── Repositories of launches ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_repository_that_missions_over_the_api_can_write_to_is_refused(roots: Path, ann: User, settings: Any) -> None:
    """Its `.git` could be replaced by a file that names another user's repository."""
    project = repository.create(roots / "project", {"a": "1"})
    settings.FLEET_FOLDERS = [str(roots)]
    with pytest.raises(errors.Invalid, match="lies below FLEET_FOLDERS"):
        launch(by=ann, repository=str(project.path))
    settings.FLEET_FOLDERS = [str(roots / "elsewhere")]
    assert launch(by=ann, repository=str(project.path)).workspace


@pytest.mark.parametrize(
    "path",
    ["../others/secret", "./../others/secret", "%2e%2e/others/secret", "..%2fothers/secret", "x/..", "x//../y", "x?/../..",
     "%2E./others/secret", "x\\..\\..\\others"],
)  # fmt: skip
@pytest.mark.parametrize("root", ["https://git.example.org/team", "git@git.example.org:team"])
def test_an_address_does_not_lead_out_of_its_root(roots: Path, ann: User, root: str, path: str) -> None:
    with pytest.raises(errors.Invalid, match="may not use the repository"):
        launch(by=ann, repository=f"{root}/{path}", base="0" * 40)


def test_an_address_below_a_root_is_allowed(roots: Path, ann: User) -> None:
    for address in ("https://git.example.org/team/app.git", "git@git.example.org:team/a..b/.github"):
        assert launch(by=ann, repository=address, base="0" * 40).workspace.repository == address


def test_a_client_cannot_choose_an_arbitrary_repository_through_a_templates_input(
    roots: Path, ann: User, tmp_path: Path
) -> None:
    secret = repository.create(tmp_path / "secret", {"a": "1"})
    allowed = repository.create(roots / "project", {"a": "1"})
    inputs: dict[str, Any] = {"where": {}}
    text = "{{ inputs.where }}"
    with pytest.raises(errors.Invalid, match="may not use the repository"):
        launch(by=ann, template="fix", inputs=inputs, params={"where": str(secret.path)}, repository=text)
    assert launch(by=ann, template="fix", inputs=inputs, params={"where": str(allowed.path)}, repository=text)
    assert launch(by=ann, template="fix", repository=str(secret.path))


@pytest.mark.parametrize("relative", [".", "app", "../work/app"])
def test_a_client_cannot_choose_a_templates_repository_through_the_folder(
    roots: Path, ann: User, tmp_path: Path, settings: Any, relative: str
) -> None:
    settings.FLEET_FOLDERS = [str(tmp_path / "folders")]
    folder = tmp_path / "folders" / "work"
    repository.create(folder, {"a": "1"})
    repository.create(folder / "app", {"a": "1"})
    Template.objects.create(name="fix", text="")
    with pytest.raises(errors.Invalid, match="lies below FLEET_FOLDERS"):
        launch(by=ann, template="fix", folder=str(folder), repository=relative)
    Template.objects.update(folder=str(folder))
    assert launch(by=ann, template="fix", folder=str(folder), repository=relative)


# ── Branches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_branch_names_that_would_block_other_branches_are_refused(roots: Path, ann: User) -> None:
    project = repository.create(roots / "project", {"a": "1"})
    bob = User.objects.create_user("bob")
    first = launch(by=bob, repository=str(project.path), branch="login/form")
    for branch in ("fleet", "login", "login/form/x", first.workspace.branch + "/y/z"):
        with pytest.raises(errors.Invalid, match="Git cannot store the branch"):
            launch(by=ann, repository=str(project.path), branch=branch)
    default = launch(by=bob, repository=str(project.path)).workspace.branch
    with pytest.raises(errors.Invalid, match="Git cannot store the branch"):
        launch(by=ann, repository=str(project.path), branch=f"{default}/x")
    for branch in ("login/page", "login-form", "fleet/own"):
        assert launch(by=ann, repository=str(project.path), branch=branch)


# ── Hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_hooks_of_a_bare_repository_in_the_folder_of_a_mission_do_not_run(tmp_path: Path) -> None:
    """Work could have written them. The sandbox would confine them too, unless it is off."""
    project = repository.create(tmp_path / "project", {"a": "1"})
    shared = repository.clone_bare(project, project.path / "build" / "shared.git")
    hook(shared, ".", tmp_path / "trap")
    mission = conflicting.landed_mission(shared)
    fleet.launch({"other": {"run": "true"}}, folder=str(project.path))
    with pytest.raises(errors.Conflict, match="whose workloads may have changed its hooks"):
        merging.merge(mission=mission.id)
    assert not (tmp_path / "trap").exists()


def test_a_checkout_that_calls_itself_bare_runs_no_hooks(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "project", {"a": "1"})
    mission = conflicting.landed_mission(project)
    hook(project, ".git", tmp_path / "trap")
    project.git("config", "core.bare", "true")
    assert merging.merge(mission=mission.id).outcome == "created"
    assert not (tmp_path / "trap").exists()
