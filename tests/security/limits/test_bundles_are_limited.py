"""Each download of a repository runs a git process that packs its whole history, so each caller may run only a few."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.access.models import Role
from tests.support import api, fleet, repository

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_caller_can_download_only_a_few_bundles_at_once(tmp_path: Path) -> None:
    project = repository.create(tmp_path / "project", {"app.py": "one\n"})
    mission = fleet.launch({"edit": {"run": "true"}}, workspace={"repository": str(project.path)})
    root, other = api.person("root", Role.ADMIN), api.person("other", Role.ADMIN)
    (sortie,) = root.get(f"missions/{mission.ref}/sorties").json()["results"]
    path = f"sorties/{sortie['id']}/repository.bundle"
    open_downloads = [root.get(path) for _ in range(2)]
    assert [download.status_code for download in open_downloads] == [200, 200]
    response = root.get(path)
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
    assert other.get(path).status_code == 200
    assert b"".join(open_downloads[0].streaming_content).startswith(b"# v2 git bundle")
    open_downloads[0].close()
    assert root.get(path).status_code == 200
    assert root.get(path).status_code == 429
