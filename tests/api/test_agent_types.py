"""Admins change agent types over HTTP; other users read only settings that reveal nothing about the host."""

from __future__ import annotations

from typing import Any

import pytest

from agents.models import AgentType
from fleet.access.models import Role
from fleet.audit.models import Entry
from tests.support import api

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

TYPE = "agent-types/backend"


@pytest.fixture
def boss() -> api.Client:
    return api.person("boss", Role.ADMIN)


def test_changing_some_settings_records_the_old_ones_in_the_audit_trail(boss: api.Client) -> None:
    response = boss.patch(TYPE, {"prompt_argv": ["cat", "-"], "concurrency": 3}, If_Match=boss.get(TYPE)["ETag"])
    assert response.status_code == 200
    assert (response.json()["prompt_argv"], response.json()["takes_prompt"], response.json()["enabled"]) == (
        ["cat", "-"],
        True,
        True,
    )
    backend = AgentType.objects.get(name="backend")
    assert (backend.prompt_argv, backend.concurrency) == (["cat", "-"], 3)
    entry = Entry.objects.filter(kind="agenttype.changed").order_by("-id")[0]
    assert (entry.subject, entry.actor) == ("backend", "user:boss")
    assert entry.before == {"prompt_argv": [], "concurrency": 2}
    assert entry.after == {"prompt_argv": ["cat", "-"], "concurrency": 3}


def test_a_change_requires_the_current_etag(boss: api.Client) -> None:
    etag = boss.get(TYPE)["ETag"]
    assert boss.patch(TYPE, {"agents": 2}).status_code == 428
    assert boss.patch(TYPE, {"agents": 2}, If_Match=etag).status_code == 200
    assert boss.patch(TYPE, {"agents": 5}, If_Match=etag).status_code == 412
    assert boss.get(TYPE).json()["agents"] == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"concurrency": 0}, "/concurrency"),
        ({"prompt_argv": "claude -p"}, "/prompt_argv"),
        ({"prompt_argv": [""]}, "/prompt_argv/0"),
        ({"env_allow": ["A B"]}, "/env_allow"),
        ({"readable": ["models"]}, "/readable"),
        ({"agents": -1}, "/agents"),
        ({"name": "other"}, "/name"),
    ],
)
def test_an_invalid_change_is_refused_as_a_whole(boss: api.Client, body: Any, pointer: str) -> None:
    response = boss.patch(TYPE, {"description": "new", **body}, If_Match="*")
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert AgentType.objects.get(name="backend").description != "new"


def test_other_users_cannot_change_a_type_or_see_its_command(boss: api.Client) -> None:
    boss.patch(TYPE, {"prompt_argv": ["cat"]}, If_Match="*")
    ann = api.person("ann")
    body = ann.get(TYPE).json()
    assert (body["takes_prompt"], body["prompt_argv"], body["env_allow"]) == (True, None, None)
    assert ann.patch(TYPE, {"concurrency": 3}, If_Match="*").status_code == 403
    assert boss.get("agent-types/no-such").status_code == 404
