"""Streams of a workload count as those of the user whose mission it runs for, so that it takes none from others."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.http import StreamingHttpResponse
from django.test import override_settings

from agents.operations import types
from fleet.access.models import Role
from missions.models import Mission, Output, Sortie
from tests.support import api, fleet

pytestmark = pytest.mark.django_db(transaction=True)


def workload_of(user: api.Client, robot: api.Client) -> tuple[api.Client, str]:
    """A client with the lease token of a running sortie of this user, and the path of the sortie's log."""
    mission = fleet.launch({"one": {}})
    Mission.objects.filter(id=mission.id).update(created_by=user.user)
    agent = robot.post("agents", {"type": "backend"}).json()["id"]
    (lease,) = robot.post("sorties/claim", {"agent": agent}).json()["leases"]
    sortie = Sortie.objects.get(mission=mission)
    Output.objects.create(sortie=sortie, attempt=1, stream="stdout", text="hello\n")
    return api.Client(lease["token"]), f"sorties/{sortie.ref}/logs.txt?follow=true"


@override_settings(FLEET_LIVE_LISTENERS=4)  # one per user
def test_a_workload_takes_the_streams_of_its_own_user_only() -> None:
    types.change(name="backend", changes={"external": True})
    robot = api.machine(api.person("robot", Role.AGENT).user, "fly", "read")
    ann, bob = api.person("ann"), api.person("bob")
    ann_work, ann_log = workload_of(ann, robot)
    bob_work, bob_log = workload_of(bob, robot)

    async def statuses() -> list[int]:
        async with AsyncExitStack() as stack:
            found = []
            for client, path in ((ann_work, ann_log), (ann, ann_log), (ann_work, ann_log), (bob_work, bob_log)):
                response = await sync_to_async(client.get)(path)
                found.append(response.status_code)
                if isinstance(response, StreamingHttpResponse):
                    content = await stack.enter_async_context(aclosing(response._iterator))  # type: ignore[attr-defined]  # not in the stubs
                    assert await anext(content) == b"hello\n"
            return found

    assert async_to_sync(statuses)() == [200, 429, 429, 200]
