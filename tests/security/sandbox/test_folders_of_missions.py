"""The folders and paths that a launch may name depend on the caller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from missions import folders, plan
from missions.queries import plan_context

SCRATCH = Path("/scratch")


def read(*paths: str) -> plan.Plan:
    data = {
        "mission": "A test",
        "inputs": {"where": {"default": ""}},
        "readable": list(paths),
        "sorties": {"one": {"agent": "backend", "run": "true"}},
    }
    return plan.from_data(data=data, context=plan_context.without_database())


def readable_folders(*paths: str, **more: Any) -> list[str]:
    values = {"inputs": {"where": "/root/.ssh"}, "folder": "", "operator": False, "template": False, **more}
    return folders.readable_paths(plan=read(*paths), **values)


def test_an_operator_may_name_any_path(tmp_path: Path) -> None:
    assert readable_folders(str(tmp_path), operator=True) == [str(tmp_path)]
    assert readable_folders("{{ inputs.where }}", operator=True, inputs={"where": "."}, folder=str(tmp_path)) == [
        str(tmp_path)
    ]


def test_a_client_may_name_only_paths_below_the_configured_folders(settings: Any) -> None:
    settings.FLEET_FOLDERS = ["/srv/projects"]
    assert readable_folders("/srv/projects/one/../two") == ["/srv/projects/two"]
    for path in (
        "/srv/projects",
        "/srv/projects/../secret",
        "/root",
        "{{ inputs.where }}",
        "relative",
        "/srv/projects-2",
    ):
        with pytest.raises(errors.Invalid):
            readable_folders(path)


def test_a_template_may_name_other_paths_but_inputs_cannot_complete_them(settings: Any) -> None:
    settings.FLEET_FOLDERS = ["/srv/projects"]
    assert readable_folders("/data/models", template=True) == ["/data/models"]
    for path in ("{{ inputs.where }}", "/data/{{ inputs.where }}", "/srv/projects/{{ inputs.where }}/x"):
        with pytest.raises(errors.Invalid):
            readable_folders(path, template=True, inputs={"where": "../../../../root"})


def test_a_folder_of_the_client_cannot_complete_a_path_of_a_template(settings: Any) -> None:
    settings.FLEET_FOLDERS = ["/srv/projects"]
    with pytest.raises(errors.Invalid):
        readable_folders("../../secrets", template=True, folder="/srv/projects/one")
    assert readable_folders("data", template=True, folder="/srv/projects/one") == ["/srv/projects/one/data"]
    assert readable_folders("../data", template=True, folder="/opt/app", own_folder=True) == ["/opt/data"]


def test_links_are_followed_only_when_an_operator_launches(tmp_path: Path, settings: Any) -> None:
    settings.FLEET_FOLDERS = [str(tmp_path)]
    (tmp_path / "link").symlink_to("/root")
    link = str(tmp_path / "link")
    assert readable_folders(link, operator=True) == ["/root"]
    assert readable_folders(link, operator=True, attended=False) == [link], (
        "work may have created the link before the schedule launches"
    )
    assert readable_folders(link, template=True) == [link]
    assert readable_folders(link) == [link], "the sandbox refuses it when the attempt starts"
    assert readable_folders("{{ inputs.where }}", template=True, inputs={"where": link}) == [link]


def test_a_mission_folder_over_the_api_must_be_below_the_configured_folders(settings: Any) -> None:
    assert folders.folder_for_api("") == ""
    for folder in ("/srv/projects/x", "/", "relative"):
        with pytest.raises(errors.Invalid):
            folders.folder_for_api(folder)
    settings.FLEET_FOLDERS = ["/srv/projects"]
    assert folders.folder_for_api("/srv/projects/x/") == "/srv/projects/x"
    for folder in ("/srv/projects", "/srv/projects/../x", "/srv"):
        with pytest.raises(errors.Invalid):
            folders.folder_for_api(folder)


@pytest.mark.parametrize("named", ["/proc/1", "/etc", "../other", "/", "/mission/../x", "/dev"])
def test_cwd_must_be_inside_the_folders_of_the_sortie(named: str) -> None:
    with pytest.raises(errors.Invalid, match="outside the folders"):
        folders.cwd(plan_cwd=named, folder="/mission", scratch=SCRATCH, allowed=[Path("/data")])


@pytest.mark.parametrize(
    ("named", "meant"), [("sub", "/mission/sub"), ("/data/x", "/data/x"), ("/scratch/y", "/scratch/y")]
)
def test_cwd_is_relative_to_the_missions_folder(named: str, meant: str) -> None:
    assert folders.cwd(plan_cwd=named, folder="/mission", scratch=SCRATCH, allowed=[Path("/data")]) == Path(meant)


def test_the_fleets_home_cannot_be_the_folder_of_a_mission(settings: Any) -> None:
    for folder in (settings.FLEET_HOME.root, settings.FLEET_HOME.private, settings.FLEET_HOME.scratch):
        with pytest.raises(errors.Invalid, match="belongs to the fleet itself"):
            folders.check_folder(str(folder))
