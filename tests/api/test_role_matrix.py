"""For every route, caller and kind of object, the response is the one that the table of actions requires."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from checkpoints.operations import capture
from fleet import ids
from fleet.access import operations as access
from fleet.access import tokens
from fleet.access.models import Key, Role
from fleet.access.rules import RULES, AccessRule, Scope, Visibility
from fleet.access.rules_page import lines
from fleet.api.accounts import PublicView
from fleet.api.checks import problems, routes
from fleet.api.endpoints import METHODS
from fleet.api.views import ApiView
from missions.models import Mission, Reservation, Schedule, Sortie
from missions.operations import external_agents
from tests.support import api, artifacts, fleet, repository
from tests.support.paths import CHECKOUT

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

NOBODY = "0" * 26
BODIES: dict[str, Any] = {
    "POST auth/token": {"username": "ann", "password": "wrong"},
    "POST auth/refresh": {"refresh": "x"},
    "POST keys": {"name": "one", "scopes": ["manage"]},
    "POST missions": {"plan": {"mission": "x", "sorties": {"a": {"agent": "backend", "run": "true"}}}},
    "POST plans/check": {"plan": {"mission": "x", "sorties": {"a": {"agent": "backend", "run": "true"}}}},
    "POST schedules": {
        "name": "x",
        "cron": "@daily",
        "plan": {"mission": "x", "sorties": {"a": {"agent": "backend", "run": "true"}}},
    },
    "POST checkpoints": {"mission": f"msn_{NOBODY}"},
    "POST agents": {"type": "no-such-type"},
    "POST agents/spawn": {"type": "no-such-type"},
    "POST sorties/claim": {"agent": f"agt_{NOBODY}"},
    "POST sorties/<str:ref>/resolve": {"decision": "retry"},
    "POST sorties/<str:ref>/reservations": {"patterns": ["src/**"]},
    "POST sorties/<str:ref>/fail": {"error": "x"},
    "POST agents/<str:ref>/progress": {"sortie": f"srt_{NOBODY}", "token": f"srt_{NOBODY}.1.x"},
}


@dataclass(frozen=True)
class Objects:
    """Objects of ann (own), of a member of her team (team), and of eve (other)."""

    own: Mission
    team: Mission
    other: Mission
    lease: str

    def id_of(self, kind: str, relation: str) -> str:
        """An id for the routes of `missions`, `sorties`, `schedules`, `checkpoints`, `agents`, `keys`, `artifacts` and so on."""
        mission: Mission | None = getattr(self, relation, None)
        match kind:
            case "missions":
                return mission.ref if mission else f"msn_{NOBODY}"
            case "sorties":
                return Sortie.objects.get(mission=mission, key="one").ref if mission else f"srt_{NOBODY}"
            case "artifacts":
                if mission is None:
                    return f"art_{NOBODY}"
                return artifacts.add(
                    Sortie.objects.get(mission=mission, key="one"), path=f"{ids.new()}", content=b"x"
                ).ref
            case "checkpoints":
                if mission is None:
                    return f"chk_{NOBODY}"
                # An earlier caller may have cancelled it, and no agent is running that would end it.
                Mission.objects.filter(id=mission.id, state="cancelling").update(state="paused")
                return capture(missions=[mission.id]).ref
            case "keys":
                if mission is None or mission.created_by is None:
                    return f"key_{NOBODY}"
                return access.create_key(user=mission.created_by, name="one", scopes=["read"]).key.ref
            case "reservations":
                if mission is None:
                    return f"rsv_{NOBODY}"
                sortie = Sortie.objects.get(mission=mission, key="one")
                return Reservation.objects.create(sortie=sortie, repository="r", branch="b", pattern="x").ref
            case "schedules":
                if mission is None:
                    return f"sch_{NOBODY}"
                return Schedule.objects.create(
                    name=f"{ids.new()}", cron="@daily", timezone="UTC", owner=mission.created_by, team=mission.team,
                    plan="mission: x\nsorties: {a: {agent: backend, run: 'true'}}",
                ).ref  # fmt: skip
            case "agent-types":
                return "backend" if mission else "no-such-type"
            case _:
                return f"agt_{NOBODY}" if mission is None else external_agents.register(
                    agent_type="backend", by=mission.created_by
                ).ref  # fmt: skip


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    project = repository.create(tmp_path / "project", {"README.md": "A project\n"})
    people = {
        name: api.person(name, teams=teams).user for name, teams in (("ann", ["web"]), ("bob", ["web"]), ("eve", []))
    }
    missions = {}
    for relation, owner in (("own", "ann"), ("team", "bob"), ("other", "eve")):
        missions[relation] = mission = fleet.launch(
            {"one": {"agent": "backend"}}, workspace={"repository": str(project.path)}
        )
        Mission.objects.filter(id=mission.id).update(
            created_by=people[owner], team=people["bob"].groups.get() if relation == "team" else None
        )
        mission.refresh_from_db()
    fleet.open_to_external_agents()
    robot = api.person("robot", Role.AGENT)
    agent = external_agents.register(agent_type="backend", by=robot.user)
    (lease,) = external_agents.claim(agent=agent.id)
    return Objects(**missions, lease=lease.token)


def endpoints() -> Iterator[tuple[str, str, Any]]:
    """The method, address and view of every route."""
    for address, view in routes():
        assert view is not None
        if issubclass(view, ApiView):
            for method in METHODS:
                if hasattr(view, method):
                    yield method, address.removeprefix("api/v1/"), view


def kind_of(address: str) -> str:
    """The kind of object that the id in an address identifies."""
    return "missions" if "<str:mission>" in address else address.split("/")[0]


def call(client: api.Client, method: str, address: str, object_id: str) -> int:
    body = BODIES.get(f"{method.upper()} {address}")
    path = re.sub(r"<str:\w+>", object_id, address)
    return int(
        client.send(
            method, path, {} if body is None and method in {"post", "patch"} else body, If_Match="*"
        ).status_code
    )


def expected(
    rule: AccessRule, role: Role, relation: str, scopes: frozenset[str] | None, *, code: bool
) -> set[int] | None:
    """The statuses that the table of actions allows for a caller without plan.execute.

    None: the action is allowed, and the status depends on the object. `code`: the plan runs code and is not a template.
    """
    if role not in rule.roles or (scopes is not None and rule.scope is not None and rule.scope not in scopes):
        return {403}
    if relation == "absent" and rule.visibility is not Visibility.ATTEMPT:
        return {404, 422, 409}
    if role == Role.ADMIN:
        return None
    if rule.starts_code and code and (relation == "own" or rule.visibility is Visibility.ALL):
        return {403}
    if rule.visibility is Visibility.ALL:
        return None
    if rule.visibility is Visibility.TEAMS:
        return None if relation in {"own", "team"} else {404}
    if rule.visibility is Visibility.OWN:
        return None if relation == "own" else {403, 404}
    return {404, 422}  # visible only with a lease token


def callers(objects: Objects) -> Iterator[tuple[str, api.Client, Role, frozenset[str] | None]]:
    ann = User.objects.get(username="ann")
    access.create_user(name="root", role=Role.ADMIN)  # otherwise ann, as the last admin, could not lose the role
    for role in Role:
        access.set_role(user=ann, role=role)
        yield f"a {role}", api.Client(tokens.begin(user=ann).access, ann), role, None
        for scope in Scope:
            yield f"the key of a {role} to {scope}", api.machine(ann, scope), role, frozenset({scope})


def test_each_route_answers_each_caller_as_the_table_says(objects: Objects) -> None:
    mismatches = []
    for name, client, role, scopes in callers(objects):
        Key.objects.filter(name="one").delete()  # keys of earlier callers, which would exceed the limit per user
        for method, address, view in endpoints():
            if issubclass(view, PublicView):
                continue
            rule = RULES[view.declaration(method).action]
            kinds = ("own", "team", "other", "absent") if "<str:" in address else ("own",)
            for relation in kinds if scopes is None else kinds[:1]:
                object_id = objects.id_of(kind_of(address), relation)
                status = call(client, method, address, object_id)
                allowed = expected(
                    rule, role, relation, scopes, code=address != "plans/check"
                )  # a check starts nothing
                ok = status in allowed if allowed is not None else status not in {401, 403, 405, 500}
                if "logout" in address:
                    client = (
                        api.machine(client.user, *(scopes or [scope.value for scope in Scope])) if scopes else client
                    )
                    client = client if scopes else api.Client(tokens.begin(user=client.user).access, client.user)
                if not ok:
                    mismatches.append(f"{name}: {method.upper()} {address} of {relation}: {status}, not {allowed}")
    assert not mismatches, "\n".join(mismatches)


def test_only_signing_in_works_without_a_token(objects: Objects) -> None:
    for method, address, _ in endpoints():
        status = call(api.anonymous(), method, address, objects.id_of(kind_of(address), "own"))
        assert status == 401, (method, address, status)


def test_a_lease_token_opens_only_its_sortie_and_its_mission(objects: Objects) -> None:
    client = api.Client(objects.lease)
    own_sortie = objects.lease.partition(".")[0]
    own = {"missions": objects.own.ref, "sorties": own_sortie, "artifacts": objects.id_of("artifacts", "own")}
    reporting_routes, mismatches = set(), []
    for method, address, view in endpoints():
        if issubclass(view, PublicView):
            continue
        rule, kind = RULES[view.declaration(method).action], kind_of(address)
        for object_id in (own.get(kind, NOBODY), objects.id_of(kind, "other")):
            if address.endswith(("complete", "fail")) and object_id == own_sortie:
                continue  # they would end it; below
            status = call(client, method, address, object_id)
            if rule.lease is None or (address.endswith("stream") and object_id == objects.own.ref):
                ok = status == 403
            elif object_id != own.get(kind):
                ok = status == 404
            else:
                ok = status in {200, 201, 204}
                if rule.lease is Visibility.ATTEMPT:
                    reporting_routes.add(address)
            if not ok:
                mismatches.append(f"{method.upper()} {address} of {object_id}: {status}")
    assert not mismatches, "\n".join(mismatches)
    assert reporting_routes == {
        "sorties/<str:ref>/heartbeat",
        "sorties/<str:ref>/progress",
        "sorties/<str:ref>/reservations",
        "sorties/<str:ref>/reservations/release",
        "missions/<str:ref>/progress",
    }
    assert client.post(f"sorties/{own_sortie}/complete", {"result": 1}).json()["state"] == "succeeded"
    assert client.post(f"sorties/{own_sortie}/complete", {"result": 1}).json()["state"] == "succeeded"
    assert client.post(f"sorties/{own_sortie}/heartbeat").status_code == 409
    assert (
        client.get(f"missions/{objects.own.ref}").status_code == client.get(f"sorties/{own_sortie}").status_code == 409
    )
    assert api.Client(objects.lease[:-2] + "xx").post(f"sorties/{own_sortie}/heartbeat").status_code == 401


def test_every_route_has_a_rule_and_the_docs_show_the_same_table() -> None:
    assert problems() == []
    assert (CHECKOUT / "docs" / "access.md").read_text() == "\n".join(lines()) + "\n"
