"""A launch by a user may use only certain repositories, and no branch of another user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User

from agents.models import AgentType, Node
from fleet import errors
from missions import operations, plan
from missions.models import Mission, Workspace
from missions.queries import plan_context
from tests.support import repository
from tests.support.console import manage

pytestmark = pytest.mark.django_db


@pytest.fixture
def roots(tmp_path: Path, settings: Any) -> Path:
    folder = tmp_path / "repositories"
    folder.mkdir()
    settings.FLEET_REPOSITORY_ROOTS = [str(folder), "https://git.example.org/team"]
    return folder


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann")


def launch(
    address: object, *, by: User | None, operator: bool = False, template: str = "", **workspace: Any
) -> Mission:
    text = yaml.safe_dump(
        {
            "mission": "A test",
            "workspace": {"repository": str(address), **workspace},
            "sorties": {"edit": {"agent": "backend", "run": "true"}},
        }
    )
    loaded = plan.load(text=text, context=plan_context.current())
    return operations.launch(
        plan=loaded, text=text, params={}, folder="", by=by, can_execute=True, operator=operator, template=template
    )


def test_a_repository_below_a_root_is_allowed(roots: Path, ann: User) -> None:
    project = repository.create(roots / "project", {"a": "1"})
    assert launch(project.path, by=ann).workspace.repository == str(project.path)


def test_repositories_outside_the_roots_are_refused_even_through_a_link(roots: Path, ann: User, tmp_path: Path) -> None:
    other_repository = repository.create(tmp_path / "elsewhere", {"a": "1"})
    similar = repository.create(tmp_path / "repositories-of-others", {"a": "1"})
    (roots / "link").symlink_to(other_repository.path)
    for path in (other_repository.path, similar.path, roots / "link", roots / ".." / "elsewhere"):
        with pytest.raises(errors.Invalid, match="may not use the repository"):
            launch(path, by=ann)
    with pytest.raises(errors.Invalid, match="may not use the repository"):
        launch("https://git.example.org/teams/secret.git", by=ann)


def test_operators_and_templates_may_use_any_repository(roots: Path, ann: User, tmp_path: Path) -> None:
    project = repository.create(tmp_path / "elsewhere", {"a": "1"})
    assert launch(project.path, by=None, operator=True).workspace
    assert launch(project.path, by=ann, template="fix").workspace


@pytest.mark.parametrize(
    "address",
    ["ext::sh -c id", "file:///etc", "-uproject", "git://example.org/x", "http://example.org/x", "--upload-pack=x"],
)
def test_other_transports_are_refused(address: str) -> None:
    with pytest.raises(errors.Invalid):
        launch(address, by=None, operator=True)


def test_the_branch_of_another_users_mission_is_refused(roots: Path, ann: User) -> None:
    project = repository.create(roots / "project", {"a": "1"})
    first = launch(project.path, by=ann)
    bob = User.objects.create_user("bob")
    with pytest.raises(errors.Invalid, match="belongs to another user's mission"):
        launch(project.path, by=bob, branch=first.workspace.branch)
    launch(project.path, by=ann, branch=first.workspace.branch)
    launch(project.path, by=None, operator=True, branch=first.workspace.branch)
    assert Workspace.objects.filter(branch=first.workspace.branch).count() == 3


def test_a_type_with_external_agents_only_is_refused(roots: Path) -> None:
    project = repository.create(roots / "project", {"a": "1"})
    AgentType.objects.filter(name="backend").update(external=True)
    with pytest.raises(errors.Invalid, match="has external agents only, so nothing here could merge its work"):
        launch(project.path, by=None, operator=True)


def test_several_hosts_need_a_setting_that_says_they_share_the_repositories(roots: Path, settings: Any) -> None:
    project = repository.create(roots / "project", {"a": "1"})
    for name in ("one", "two"):
        Node.objects.create(name=name, boot=name, pid=1, start_time=0.0, up=True)
    with pytest.raises(errors.Invalid, match="Nodes run on 2 hosts"):
        launch(project.path, by=None, operator=True)
    settings.FLEET_REPOSITORIES_SHARED = True
    assert launch(project.path, by=None, operator=True).workspace


@pytest.mark.parametrize(
    ("base", "message"), [("nowhere", "nowhere"), ("refs/heads/none", "none"), ("deadbeef" * 5, "deadbeef")]
)
def test_a_base_that_does_not_exist_is_named(roots: Path, base: str, message: str) -> None:
    project = repository.create(roots / "project", {"a": "1"})
    with pytest.raises(errors.Invalid, match=message):
        launch(project.path, by=None, operator=True, base=base)


@pytest.mark.parametrize("action", ["validate", "run"])
@pytest.mark.parametrize(
    ("workspace", "message"),
    [
        ("{repository: nowhere}", "line 2, workspace.repository: There is no git repository at "),
        ("{repository: project, base: gone}", "line 2, workspace.base: 'gone' is not a branch, tag or commit of "),
    ],
)
def test_commands_name_the_line_of_a_repository_or_base_that_does_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, workspace: str, message: str
) -> None:
    repository.create(tmp_path / "project", {"a": "1"})
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(
        f"mission: A test\nworkspace: {workspace}\nsorties:\n  edit: {{agent: backend, run: 'true'}}\n"
    )
    result = manage("fleet_mission", action, "plan.yaml")
    assert result.code == 2
    assert message in result.err


def test_a_branch_that_would_be_too_long_a_file_name_is_refused(roots: Path, ann: User) -> None:
    project = repository.create(roots / "project", {"a": "1"})
    with pytest.raises(errors.Invalid, match="is not a valid name for a branch") as excinfo:
        launch(project.path, by=ann, branch="é" * 126)
    assert excinfo.value.pointer == "/plan/workspace/branch"
    longest = "é" * 125
    project.git("branch", longest)  # git itself can create it
    assert launch(project.path, by=ann, branch=longest).workspace.branch == longest
