"""What is read of agents and nodes."""

from __future__ import annotations

from django.db.models import QuerySet

from agents.models import Agent
from fleet import errors, ids


def find(reference: str) -> Agent:
    """The agent of an id (`agt_…`) or, among those alive, of a name (`backend-1@host`, or `backend-1` where there is one).

    NotFound where there is none, Conflict where several answer to it.
    """
    agents = Agent.objects.select_related("type", "node")
    if reference.startswith(f"{ids.AGENT}_"):
        found = agents.filter(id=ids.decode(ids.AGENT, reference)).first()
        if found is None:
            raise errors.NotFound(f"There is no agent {reference}.", hint="See `manage.py fleet_agents list --all`.")
        return found
    named = [agent for agent in live(agents) if reference in {agent.name, agent.name.partition("@")[0]}]
    if not named:
        raise errors.NotFound(f"No live agent is called {reference!r}.", hint="See `manage.py fleet_agents list`.")
    if len(named) > 1:
        raise errors.Conflict(
            f"{len(named)} agents are called {reference!r}.", hint="Say which: " + ", ".join(a.name for a in named)
        )
    return named[0]


def live(agents: QuerySet[Agent] | None = None) -> QuerySet[Agent]:
    """Those that have not ended, by type, node and place."""
    found = Agent.objects.select_related("type", "node") if agents is None else agents
    return found.filter(state__in=Agent.LIVE).order_by("type", "node__name", "place", "id")
