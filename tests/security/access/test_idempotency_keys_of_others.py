"""A stored response is only for the user who got it, even if another user has the same name later."""

from __future__ import annotations

import pytest

from fleet.access.rules import Scope
from tests.support import api

pytestmark = pytest.mark.django_db


def create(client: api.Client) -> tuple[int, str, bool]:
    """Launch a mission with the same key and body each time: the status, the id, and whether it was a replay."""
    response = client.post("missions", {"plan": api.PLAN}, Idempotency_Key="same")
    return response.status_code, response.json()["id"], "Idempotency-Replayed" in response


def test_a_later_user_of_the_same_name_gets_no_stored_response() -> None:
    first = api.person("ann", can_execute=True)
    original = create(first)
    assert original == (201, original[1], False)
    assert create(first) == (201, original[1], True)
    first.user.username = "ann.smith"
    first.user.save()
    assert create(first) == (201, original[1], True)  # the same user, who was renamed
    status, id, replayed = create(api.person("ann", can_execute=True))
    assert (status, replayed) == (201, False)
    assert id != original[1]


def test_users_and_machine_keys_have_separate_keys() -> None:
    ann, bob = api.person("ann", can_execute=True), api.person("bob", can_execute=True)
    clients = [ann, bob, api.machine(ann.user, Scope.LAUNCH), api.machine(ann.user, Scope.LAUNCH)]
    created = [create(client) for client in clients]
    assert [replayed for _, _, replayed in created] == [False] * 4
    assert len({id for _, id, _ in created}) == 4
