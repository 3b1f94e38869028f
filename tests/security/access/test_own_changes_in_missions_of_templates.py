"""A user who may launch a template cannot make its checks run a change of that user's choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.access.models import Role
from missions.models import Conflict, Mission, Sortie
from tests.support import api, repository
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    return repository.create(tmp_path / "project", {"app.py": "one\ntwo\nthree\n"})


def sortie_with_conflict(project: Repository, client: api.Client) -> str:
    """A sortie of a template's mission that the client launched. It waits for a person; the branch `mine` would do."""
    mission = conflicting.waiting_for_a_person(project)
    Mission.objects.filter(id=mission.id).update(created_by=client.user, template="deploy")
    branch = repository.branch(mission)
    project.git("fetch", "--quiet", str(branch.mirror), f"{branch.name}:mine")
    return Sortie.objects.get(mission=mission, key="late").ref


@pytest.mark.parametrize("can_execute", [False, True])
def test_only_users_who_may_edit_templates_resolve_a_conflict_by_their_own_change(
    project: Repository, can_execute: bool
) -> None:
    eve = api.person("eve", can_execute=can_execute)
    sortie = sortie_with_conflict(project, eve)
    response = eve.post(f"sorties/{sortie}/resolve", {"decision": "from", "ref": "mine"})
    assert response.status_code == 403, response.content
    assert "only users who may edit templates" in response.json()["detail"]
    assert Conflict.objects.get(sortie__key="late").outcome == "manual"
    assert eve.post(f"sorties/{sortie}/resolve", {"decision": "retry"}).status_code == 202


def test_an_admin_resolves_it_by_their_own_change(project: Repository) -> None:
    boss = api.person("boss", Role.ADMIN)
    sortie = sortie_with_conflict(project, boss)
    assert boss.post(f"sorties/{sortie}/resolve", {"decision": "from", "ref": "mine"}).status_code == 202
