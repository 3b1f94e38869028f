"""The remedy for a type without an agent names the actual cause."""

from __future__ import annotations

import pytest

from agents.models import Node
from fleet import ids
from missions.queries import roster


@pytest.mark.django_db
def test_the_remedy_matches_the_cause() -> None:
    def remedy() -> str:
        result = roster.health([], types=["backend"])
        assert (result["healthy"], result["missing"]) == (False, ["backend"])
        return str(result["remedy"])

    assert remedy() == "No node is up. Start one: ./manage.py fleet_node"
    Node.objects.create(name="here", boot=str(ids.new()), pid=1, start_time=1.0, up=True, cordoned=True)
    assert remedy() == "Every node that is up is cordoned. Uncordon it: ./manage.py fleet_agents uncordon here"
    Node.objects.update(cordoned=False)
    assert remedy() == "Start one: ./manage.py fleet_agents spawn backend"
