"""An external agent sends a patch; an agent of the fleet verifies and merges it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet.access.models import Role
from missions.models import Change, Mission, Patch, Sortie
from tests.support import api, fleet, repository

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project(tmp_path: Path) -> repository.Repository:
    return repository.create(tmp_path / "project", {"README.md": "A project\n", "app.py": "one\ntwo\nthree\n"})


@pytest.fixture
def agent() -> api.Client:
    fleet.open_to_external_agents()
    return api.person("amy", Role.AGENT)


def launch(project: repository.Repository, **workspace: Any) -> Mission:
    return fleet.launch(
        {
            "edit": {
                "run": "echo own > own.txt",
                "retry": {"max_attempts": 2, "backoff": 0.1},
                **workspace.pop("sortie", {}),
            }
        },
        workspace={"repository": str(project.path), **workspace},
    )


def claim(agent: api.Client) -> dict[str, Any]:
    ref = agent.post("agents", {"type": "backend"}).json()["id"]
    (lease,) = agent.post("sorties/claim", {"agent": ref}).json()["leases"]
    return dict(lease)


def clone(agent: api.Client, lease: dict[str, Any], folder: Path) -> repository.Repository:
    """The clone that the agent gets."""
    bundle = folder.with_suffix(".bundle")
    response = api.Client(lease["token"]).get(f"sorties/{lease['sortie']}/repository.bundle")
    bundle.write_bytes(b"".join(response.streaming_content))
    copy = repository.Repository(folder.parent)
    copy.git("clone", "--quiet", "-b", lease["work"]["workspace"]["branch"], str(bundle), folder.name)
    return repository.Repository(folder)


def diff(copy: repository.Repository) -> str:
    file = copy.path.with_suffix(".patch")
    copy.git("diff", "--binary", f"--output={file}", "HEAD")
    return file.read_text()


def complete(lease: dict[str, Any], **body: Any) -> Any:
    base = {"base": lease["work"]["workspace"]["base"]} if "patch" in body else {}
    return api.Client(lease["token"]).post(f"sorties/{lease['sortie']}/complete", {**base, **body})


def test_a_patch_is_merged_with_the_result_of_the_agent_that_sent_it(
    agent: api.Client, project: repository.Repository, tmp_path: Path
) -> None:
    mission = launch(project, verify="grep -q four app.py")
    lease = claim(agent)
    copy = clone(agent, lease, tmp_path / "copy")
    assert copy.git("rev-parse", "HEAD") == lease["work"]["workspace"]["base"]
    (copy.path / "app.py").write_text("one\ntwo\nthree\nfour\n")
    (copy.path / "data.bin").write_bytes(bytes(range(256)))
    copy.git("add", "--all")
    patch = diff(copy)
    response = complete(lease, patch=patch, result={"lines": 1})
    assert response.json()["state"] in ("waiting", "queued"), response.json()
    assert complete(lease, patch=patch, result={"lines": 1}).status_code == 200  # a repeated request
    assert fleet.run_mission(mission) == "succeeded"
    branch = repository.branch(mission)
    assert branch.read("app.py") == "one\ntwo\nthree\nfour\n"
    assert "data.bin" in branch.files()
    assert "own.txt" not in branch.files()  # the fleet's agent only merged
    assert not Patch.objects.exists()
    (item,) = api.person("root", Role.ADMIN).get(f"missions/{mission.ref}/sorties").json()["results"]
    assert item["result"] == {"lines": 1}


def test_an_external_agent_never_gets_a_sortie_that_only_has_to_be_merged(
    agent: api.Client, project: repository.Repository, tmp_path: Path
) -> None:
    launch(project)
    lease = claim(agent)
    copy = clone(agent, lease, tmp_path / "copy")
    (copy.path / "app.py").write_text("changed\n")
    complete(lease, patch=diff(copy))
    assert Sortie.objects.get().state == "queued"  # for one of the fleet's own agents
    ref = agent.post("agents", {"type": "backend"}).json()["id"]
    assert agent.post("sorties/claim", {"agent": ref}).json()["leases"] == []


def test_verify_decides_whatever_the_agent_says(
    agent: api.Client, project: repository.Repository, tmp_path: Path
) -> None:
    mission = launch(project, verify="false", sortie={"retry": {"max_attempts": 1}})
    lease = claim(agent)
    copy = clone(agent, lease, tmp_path / "copy")
    (copy.path / "app.py").write_text("changed\n")
    complete(lease, patch=diff(copy), verified=0)
    assert fleet.run_mission(mission) == "failed"
    assert repository.branch(mission).subjects() == []


def test_a_patch_that_does_not_apply_costs_a_try_and_the_work_is_done_again(
    agent: api.Client, project: repository.Repository
) -> None:
    mission = launch(project)
    lease = claim(agent)
    complete(lease, patch="--- a/app.py\n+++ b/app.py\n@@ -1,1 +1,1 @@\n-nothing like this\n+x\n")
    assert fleet.run_mission(mission) == "succeeded"
    sortie = Sortie.objects.get()
    assert "The patch does not apply" in sortie.attempts.get(number=2).error
    assert repository.branch(mission).read("own.txt") == "own\n"


@pytest.mark.parametrize(
    "patch",
    [
        "--- /dev/null\n+++ b/../outside\n@@ -0,0 +1 @@\n+x\n",
        "--- /dev/null\n+++ b/.git/hooks/post-commit\n@@ -0,0 +1 @@\n+x\n",
        (
            "diff --git a/link b/link\nnew file mode 160000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n"
            "+Subproject commit 9fceb02d0ae598e95dc970b74767f19372d61af8\n"
        ),
    ],
)
def test_hostile_patches_are_refused(
    agent: api.Client, project: repository.Repository, tmp_path: Path, patch: str
) -> None:
    mission = launch(project)
    lease = claim(agent)
    assert complete(lease, patch=patch).status_code == 200
    assert fleet.run_mission(mission) == "succeeded"
    assert Sortie.objects.get().attempts.get(number=2).state == "failed"
    assert not (tmp_path / "outside").exists()
    assert sorted(Change.objects.values_list("state", flat=True)) == ["landed"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "has to change its repository"),
        ({"patch": ""}, "has to change its repository"),
        ({"patch": "x", "base": "main"}, "base"),
    ],
)
def test_requests_say_what_is_missing(
    agent: api.Client, project: repository.Repository, body: dict[str, Any], message: str
) -> None:
    launch(project, sortie={"changes": "required"})
    lease = claim(agent)
    response = complete(lease, **body)
    assert response.status_code == 422
    assert message in str(response.json())


def test_a_sortie_without_a_repository_takes_no_patch(agent: api.Client) -> None:
    fleet.launch({"one": {}})
    lease = claim(agent)
    body = {"patch": "x", "base": "9fceb02d0ae598e95dc970b74767f19372d61af8"}
    response = api.Client(lease["token"]).post(f"sorties/{lease['sortie']}/complete", body)
    assert (response.status_code, "takes no patch" in response.json()["detail"]) == (422, True)
