"""An import needs the rights of a launch, and gives none."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User

from agents.models import AgentType
from checkpoints import operations
from fleet import errors
from missions.artifacts import collection
from missions.engine.process.runtime import Engine
from missions.models import Artifact, Mission
from tests.security.lying_files import ended, imported, live, setting_spec, traces
from tests.support import archives, fleet
from tests.support.archives import Opened

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_code_needs_plan_execute() -> None:
    mission = fleet.launch({"one": {"run": "true"}})
    data = archives.exported(operations.capture(missions=[mission.id]))
    before = traces()
    with pytest.raises(errors.Forbidden):
        imported(data, by=User.objects.create_user("ann"), can_execute=False)
    assert traces() == before


def test_prompts_need_no_right_and_give_none() -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=["cat"])
    mission = fleet.launch({"one": {"prompt": "Hello", "outputs": ["a.txt"]}})
    data = archives.exported(operations.capture(missions=[mission.id]))
    arrived = imported(data, by=User.objects.create_user("ann"), can_execute=False)
    assert not arrived.mission.executes


def test_the_folder_and_the_team_follow_the_rules_of_a_launch() -> None:
    data = live()
    ann, team = User.objects.create_user("ann"), Group.objects.create(name="payments")
    before = traces()
    with pytest.raises(errors.Invalid, match="may not use the folder"):
        imported(data, by=ann, folder="/srv")
    with pytest.raises(errors.Invalid, match="not in a team"):
        imported(data, by=ann, team=team)
    with pytest.raises(errors.Invalid, match="absolute"):
        imported(data, folder="srv")
    assert traces() == before


def test_missing_agent_types_and_callables_are_named() -> None:
    opened = Opened.of(live())
    opened.change("top", lambda data: (data.update(type="unknown"), data["spec"].update(agent_type="unknown")))
    with pytest.raises(errors.Conflict, match="the agent type unknown"):
        imported(opened.sealed())
    opened = Opened.of(live())
    opened.change("top", setting_spec(driver="python", call="os:system"))
    with pytest.raises(errors.Conflict, match="the callable os:system"):
        imported(opened.sealed())


def test_a_digest_is_not_enough_to_read_somebody_elses_artifact(engine: Engine) -> None:
    data = ended(engine)
    ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
    Mission.objects.update(created_by=bob)
    arrived = imported(data, by=ann)
    assert arrived.missing == ("top: report.txt",)
    assert not Artifact.objects.filter(sortie__mission=arrived.mission).exists()
    assert imported(data, by=bob).missing == ()


def test_artifacts_of_an_import_that_fails_are_removed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ended(engine, artifacts=True)
    name = Artifact.objects.get().digest
    Artifact.objects.all().delete()
    collection.delete(name)
    before = traces()

    def fail(**_: object) -> None:
        raise errors.Unavailable

    monkeypatch.setattr("checkpoints.operations.capturing.store", fail)
    with pytest.raises(errors.Unavailable):
        imported(data)
    assert traces() == before
