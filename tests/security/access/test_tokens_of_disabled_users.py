"""The leases of a user's external agents end with the user's access."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from agents.operations import types
from fleet.access import operations
from fleet.access.models import Role
from tests.support import api, fleet

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    "end_access",
    [
        lambda user: operations.set_active(user=user, active=False),
        lambda user: operations.set_role(user=user, role=Role.USER),
        lambda user: user.delete(),
    ],
    ids=["disabled", "given another role", "deleted"],
)
def test_a_lease_token_is_refused_once_its_user_has_lost_access(end_access: Callable[[User], object]) -> None:
    api.person("boss", Role.ADMIN)
    fleet.launch({"one": {}})
    types.change(name="backend", changes={"external": True})
    user = api.person("robot", Role.AGENT).user
    robot = api.machine(user, "fly", "read")
    agent = robot.post("agents", {"type": "backend"}).json()["id"]
    (lease,) = robot.post("sorties/claim", {"agent": agent}).json()["leases"]
    holder = api.Client(lease["token"])
    assert holder.get(f"missions/{lease['mission']}").status_code == 200
    end_access(user)
    assert holder.get(f"missions/{lease['mission']}").status_code == 401
    assert holder.post(f"sorties/{lease['sortie']}/heartbeat", {}).status_code == 401
    assert holder.post(f"sorties/{lease['sortie']}/complete", {}).status_code == 401
