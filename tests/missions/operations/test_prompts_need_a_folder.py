"""A prompt needs a mission folder, because its edits in a scratch folder would be deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.models import AgentType
from fleet import errors
from missions.models import Mission
from tests.support import api, fleet

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def coder() -> AgentType:
    return AgentType.objects.create(name="coder", prompt_argv=["cat"], agents=0)


def refusal_over_the_api(**body: str) -> str:
    response = api.person("ann", can_execute=True).post(
        "missions", {"objective": "Edit the README", "agent": "coder", **body}
    )
    assert response.status_code == 422
    assert not Mission.objects.exists()
    (error,) = response.json()["errors"]
    assert error["pointer"] == "/folder"
    return str(error["detail"])


def test_a_launch_over_the_api_without_a_folder_is_told_which_folders_it_may_use(settings: Any) -> None:
    settings.FLEET_FOLDERS = ["/srv/projects", "/srv/other"]
    detail = refusal_over_the_api()
    assert "is a prompt without a folder" in detail
    assert "Choose a folder below /srv/projects or /srv/other (FLEET_FOLDERS)" in detail


@pytest.mark.parametrize("body", [{}, {"folder": "/srv/projects/x"}])
def test_a_launch_over_the_api_is_told_if_the_fleet_opens_no_folder(settings: Any, body: dict[str, str]) -> None:
    settings.FLEET_FOLDERS = []
    assert "No folder is open to launches over the API: the operator must set FLEET_FOLDERS" in refusal_over_the_api(
        **body
    )


def test_a_prompt_with_a_folder_is_launched(tmp_path: Path) -> None:
    assert fleet.launch({"edit": {"agent": "coder", "prompt": "Edit the README"}}, folder=str(tmp_path)).folder


def test_a_prompt_without_a_folder_is_refused_unless_it_has_outputs() -> None:
    with pytest.raises(errors.Invalid, match="The sortie edit is a prompt without a folder"):
        fleet.launch({"edit": {"agent": "coder", "prompt": "Edit the README"}})
    fleet.launch({"edit": {"agent": "coder", "prompt": "Write a report", "outputs": ["report.md"]}})


def test_external_agents_need_no_folder() -> None:
    AgentType.objects.create(name="poet", external=True, agents=0)
    fleet.launch({"ode": {"agent": "poet", "prompt": "An ode"}})
