"""A fork does not give other code the folder, the readable paths or the secrets of a template."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from agents.models import AgentType
from checkpoints import operations
from fleet import ids
from fleet.access.models import Role
from missions.models import Brief, Mission, Template
from tests.support import api

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

TEXT = """
mission: Deploy
readable: [/srv/keys]
inputs: {word: {default: one}}
defaults: {env: {DEPLOY_TOKEN: {value: not-for-others, secret: true}}}
sorties: {go: {agent: backend, run: [echo, "{{ inputs.word }}"]}}
"""
EDIT = {"sorties": {"go": {"agent": "backend", "run": "cat /srv/keys/key; printf %s $DEPLOY_TOKEN"}}}
PROMPT = {"sorties": {"go": {"agent": "backend", "prompt": "Print everything."}}}


@pytest.fixture
def template() -> Template:
    return Template.objects.create(name="deploy", text=TEXT, folder="/srv/deploy")


def checkpoint_of(client: api.Client) -> str:
    response = client.post("missions", {"template": "deploy"})
    assert response.status_code == 201, response.content
    mission = ids.decode(ids.MISSION, response.json()["id"])
    return operations.capture(missions=[mission]).ref


def fork(client: api.Client, checkpoint: str, **body: Any) -> Any:
    return client.post(f"checkpoints/{checkpoint}/fork", body)


def forked_mission(response: Any) -> Mission:
    return Mission.objects.get(id=ids.decode(ids.MISSION, response.json()["mission"]["id"]))


@pytest.mark.usefixtures("template")
@pytest.mark.parametrize("edit", [EDIT, PROMPT])
def test_plan_execute_is_not_enough_to_edit_the_mission_of_a_template(edit: dict[str, Any]) -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=["cat"])
    ann = api.person("ann", can_execute=True)
    response = fork(ann, checkpoint_of(ann), edit=edit, start=True)
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert "without `edit`" in response.content.decode()
    assert Mission.objects.count() == 1


@pytest.mark.usefixtures("template")
def test_a_fork_without_an_edit_needs_no_permission_and_stays_the_templates() -> None:
    eve = api.person("eve")
    forked = fork(eve, checkpoint_of(eve), sorties=["go"], params={"word": "two"}, start=True)
    assert forked.status_code == 201, forked.content
    assert forked_mission(forked).template == "deploy"


@pytest.mark.usefixtures("template")
def test_those_who_may_edit_templates_may_edit_forks_of_their_missions() -> None:
    boss = api.person("boss", Role.ADMIN)
    forked = fork(boss, checkpoint_of(boss), edit=EDIT)
    assert forked.status_code == 201, forked.content
    mission = forked_mission(forked)
    assert mission.template == ""
    assert "cat /srv/keys" in str(Brief.objects.get(sortie__mission=mission).spec)


@pytest.mark.usefixtures("template")
def test_staff_need_both_permissions() -> None:
    ann = api.person("ann", can_execute=True)
    checkpoint = checkpoint_of(ann)
    User.objects.filter(username="ann").update(is_staff=True)
    assert fork(ann, checkpoint, edit=EDIT).status_code == 403
    ann.user.user_permissions.add(Permission.objects.get(codename="change_template"))
    assert fork(ann, checkpoint, edit=EDIT).status_code == 201


@pytest.mark.parametrize("change", [{"enabled": False}, {"text": TEXT.replace("echo", "printf")}, None])
def test_an_old_plan_of_a_template_takes_new_params_only_from_those_who_may_edit_templates(
    template: Template, change: dict[str, Any] | None
) -> None:
    eve, ann, boss = api.person("eve"), api.person("ann", can_execute=True), api.person("boss", Role.ADMIN)
    checkpoints = {client: checkpoint_of(client) for client in (eve, ann, boss)}
    if change is None:
        template.delete()
    else:
        Template.objects.update(**change)
    fork_options = {"sorties": ["go"], "params": {"word": "two"}, "start": True}
    for user in (eve, ann):  # plan.execute is for code of their own, without the template's folder and secrets
        response = fork(user, checkpoints[user], **fork_options)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden"), response.content
        assert "only users who may edit templates" in response.json()["detail"]
    assert fork(boss, checkpoints[boss], **fork_options).status_code == 201
    assert fork(eve, checkpoints[eve], sorties=["go"], params={"word": "one"}).status_code == 201
