"""Missions change repositories that are on a server, over https and ssh, and their work is merged there by a push."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from checkpoints import operations as checkpoints
from fleet import errors
from missions.models import Mission
from missions.operations.workspaces import merging
from missions.workspaces.repositories import targets
from tests.support import fleet, repository
from tests.support.services import certificates, git_servers
from tests.support.work import archives, landing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def served_folder(tmp_path: Path) -> Path:
    """A folder with one bare repository, `app.git`."""
    project = repository.create(tmp_path / "project", {"a.txt": "a\n"})
    folder = tmp_path / "served"
    folder.mkdir()
    project.git("clone", "--quiet", "--bare", ".", str(folder / "app.git"))
    repository.Repository(folder / "app.git").git("config", "http.receivepack", "true")
    return folder


@pytest.fixture
def https(served_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of that repository on a server with a certificate of its own authority."""
    authority = certificates.authority(tmp_path / "tls", "authority")
    monkeypatch.setenv("GIT_SSL_CAINFO", str(authority.certificate))
    with git_servers.over_https(served_folder, authority.sign("server", hosts="DNS:localhost")) as address:
        yield f"{address}/app.git"


@pytest.fixture
def credentials(https: str, tmp_path: Path, settings: Any) -> None:
    """The password for that server, in a file whose name a shell would misread."""
    host = https.removeprefix("https://").partition("/")[0]
    file = tmp_path / "it's a secret"
    file.write_text(f"https://{git_servers.USER}:{quote(git_servers.PASSWORD, safe='')}@{host}\n")
    file.chmod(0o600)
    settings.FLEET_GIT_CREDENTIALS = str(file)


@pytest.fixture
def ssh(served_folder: Path, tmp_path: Path, settings: Any) -> str:
    settings.FLEET_PROGRAM_FOLDERS = [str(git_servers.ssh_program(tmp_path / "programs"))]
    return f"ssh://git@example.org{served_folder}/app.git"


def launch(address: str) -> Mission:
    return fleet.launch({"edit": {"run": "true"}}, workspace={"repository": address})


def check(address: str, served_folder: Path) -> None:
    """A sortie changes the repository, and its work is merged into a new branch and into an existing one."""
    mission = launch(address)
    assert landing.land(mission, "edit", "echo b > b.txt") == "succeeded"
    bare = repository.Repository(served_folder / "app.git")
    for branch in ("work", "main"):
        result = merging.merge(mission=mission.id, into=branch)
        assert bare.git("rev-parse", branch) == result.commit
        assert bare.git("show", f"{branch}:b.txt") == "b"


@pytest.mark.usefixtures("credentials")
def test_a_repository_over_https_with_a_password_can_be_used(https: str, served_folder: Path) -> None:
    check(https, served_folder)


def test_a_missing_https_password_is_reported_without_a_prompt(https: str) -> None:
    with pytest.raises(errors.Unavailable, match=r"cannot be read.*could not read Username"):
        launch(https)


@pytest.mark.usefixtures("credentials")
def test_a_certificate_of_an_unknown_authority_is_refused(
    https: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificates.authority(tmp_path / "other", "other").certificate))
    with pytest.raises(errors.Unavailable, match="certificate"):
        launch(https)


def test_a_repository_over_ssh_can_be_used(ssh: str, served_folder: Path, tmp_path: Path) -> None:
    check(ssh, served_folder)
    called = (tmp_path / "programs" / "ssh.log").read_text()
    assert "BatchMode=yes" in called
    assert "git@example.org" in called


def check_import(address: str, served_folder: Path) -> None:
    """A mission that another fleet exported is imported with this repository, and its work is merged there."""
    clone = served_folder.parent / "clone"
    bare = repository.Repository(served_folder / "app.git")
    bare.git("clone", "--quiet", ".", str(clone))
    mission = launch(str(clone))
    assert landing.land(mission, "edit", "echo b > b.txt") == "succeeded"
    exported = archives.export(checkpoints.capture(missions=[mission.id]))
    imported = archives.import_bytes(exported, repository=address).mission
    assert repository.branch(imported).tip == repository.branch(mission).tip
    merged = merging.merge(mission=imported.id, into="main")
    assert bare.git("rev-parse", "main") == merged.commit


@pytest.mark.usefixtures("credentials")
def test_a_mission_is_imported_with_a_repository_over_https(https: str, served_folder: Path) -> None:
    check_import(https, served_folder)


def test_a_mission_is_imported_with_a_repository_over_ssh(ssh: str, served_folder: Path) -> None:
    check_import(ssh, served_folder)


def test_a_hook_on_the_server_refuses_a_merge(ssh: str, served_folder: Path) -> None:
    mission = launch(ssh)
    assert landing.land(mission, "edit", "echo b > b.txt") == "succeeded"
    hook = served_folder / "app.git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'Only on weekdays.' >&2\nexit 1\n")
    hook.chmod(0o700)
    bare = repository.Repository(served_folder / "app.git")
    before = bare.git("rev-parse", "main")
    with pytest.raises(targets.Rejected, match="Only on weekdays"):
        merging.merge(mission=mission.id, into="main")
    assert bare.git("rev-parse", "main") == before
