"""An import needs the permissions of a launch, and grants none."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User

from agents.models import AgentType
from checkpoints import operations
from fleet import errors
from missions.artifacts import collection
from missions.engine.process.runtime import Engine
from missions.models import Artifact, Mission
from tests.security.imports.tampered_exports import (
    export_ended_mission,
    export_live_mission,
    set_spec_values,
    stored_state,
)
from tests.support import fleet
from tests.support.work import archives
from tests.support.work.archives import OpenedExport, import_bytes

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_code_needs_plan_execute() -> None:
    mission = fleet.launch({"one": {"run": "true"}})
    data = archives.export(operations.capture(missions=[mission.id]))
    before = stored_state()
    with pytest.raises(errors.Forbidden):
        import_bytes(data, by=User.objects.create_user("ann"), can_execute=False)
    assert stored_state() == before


def test_prompts_require_no_permission_and_grant_none() -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=["cat"])
    mission = fleet.launch({"one": {"prompt": "Hello", "outputs": ["a.txt"]}})
    data = archives.export(operations.capture(missions=[mission.id]))
    result = import_bytes(data, by=User.objects.create_user("ann"), can_execute=False)
    assert not result.mission.can_execute


def test_the_folder_and_the_team_follow_the_rules_of_a_launch() -> None:
    data = export_live_mission()
    ann, team = User.objects.create_user("ann"), Group.objects.create(name="payments")
    before = stored_state()
    with pytest.raises(errors.Invalid, match="may not use the folder"):
        import_bytes(data, by=ann, folder="/srv")
    with pytest.raises(errors.Invalid, match="not in a team"):
        import_bytes(data, by=ann, team=team)
    with pytest.raises(errors.Invalid, match="absolute"):
        import_bytes(data, folder="srv")
    assert stored_state() == before


def test_missing_agent_types_and_callables_are_named() -> None:
    export = OpenedExport.of(export_live_mission())
    export.change("top", lambda data: (data.update(type="unknown"), data["spec"].update(agent_type="unknown")))
    with pytest.raises(errors.Conflict, match="the agent type unknown"):
        import_bytes(export.reseal())
    export = OpenedExport.of(export_live_mission())
    export.change("top", set_spec_values(driver="python", call="os:system"))
    with pytest.raises(errors.Conflict, match="the callable os:system"):
        import_bytes(export.reseal())


def test_a_digest_is_not_enough_to_read_another_users_artifact(engine: Engine) -> None:
    data = export_ended_mission(engine)
    ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
    Mission.objects.update(created_by=bob)
    result = import_bytes(data, by=ann)
    assert result.missing == ("top: report.txt",)
    assert not Artifact.objects.filter(sortie__mission=result.mission).exists()
    assert import_bytes(data, by=bob).missing == ()


def test_artifacts_of_an_import_that_fails_are_removed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    data = export_ended_mission(engine, with_artifacts=True)
    name = Artifact.objects.get().digest
    Artifact.objects.all().delete()
    collection.delete(name)
    before = stored_state()

    def fail(**_: object) -> None:
        raise errors.Unavailable

    monkeypatch.setattr("checkpoints.operations.capturing.store", fail)
    with pytest.raises(errors.Unavailable):
        import_bytes(data)
    assert stored_state() == before
