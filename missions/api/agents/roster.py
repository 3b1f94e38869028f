"""Endpoints of agents and nodes, and the registration of external agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents import operations
from agents import queries as agent_queries
from agents.models import Agent, Node
from fleet import errors, ids
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.serializers import Id, Strict, Text
from fleet.api.views import ApiView, actor_of
from missions.operations import external_agents
from missions.queries import roster, visibility

MAX_SAMPLES = 200  # of a history, in one response
MAX_LINES = 2_000  # of a log, in one response


class AgentResponse(serializers.Serializer[Any]):
    """An agent, in the format of `fleet_agents list --json`."""

    id = Id(ids.AGENT)
    name = serializers.CharField(initial="testing-1")
    type = serializers.CharField(initial="testing")
    node = serializers.CharField(allow_null=True, initial="alpha", help_text="null for an external agent")
    pid = serializers.IntegerField(initial=4_711, help_text="0: none yet")
    state = serializers.ChoiceField(Agent.State.choices, initial="busy")
    order = serializers.CharField(allow_blank=True, help_text="the pending order to its node")
    concurrency = serializers.IntegerField(initial=1, help_text="sorties that it runs at once")
    sorties = serializers.ListField(
        child=serializers.CharField(initial="lint"), help_text="keys of its running sorties"
    )
    settled = serializers.IntegerField(initial=12)
    crashes = serializers.IntegerField(initial=0)
    heartbeat_age_s = serializers.FloatField(initial=1.2)
    age_s = serializers.FloatField(initial=340.5)
    reason = serializers.CharField(allow_blank=True)


class SpawnedResponse(serializers.Serializer[Any]):
    """Agents that have been requested. Their nodes start them."""

    agents = AgentResponse(many=True)


class HealthResponse(serializers.Serializer[Any]):
    """The health of an agent."""

    id = Id(ids.AGENT)
    name = serializers.CharField(initial="testing-1")
    state = serializers.ChoiceField(Agent.State.choices, initial="busy")
    health = serializers.CharField(initial="healthy", help_text="`healthy`, or a sentence that says what is wrong")


class SystemHealthResponse(serializers.Serializer[Any]):
    """The health of all agents, the types that lack an agent, and what to do about it."""

    healthy = serializers.BooleanField(initial=True)
    agents = HealthResponse(many=True)
    missing = serializers.ListField(child=serializers.CharField(), initial=[], help_text="types without an agent")
    remedy = serializers.CharField(initial="", help_text="what to do about it")


class SampleResponse(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    step_s = serializers.FloatField(initial=10.0, help_text="the time that the sample covers")
    cpu = serializers.FloatField(initial=0.35, help_text="CPUs in use")
    memory_bytes = serializers.IntegerField(initial=48_234_496)
    processes = serializers.IntegerField(initial=3)


class ResourcesResponse(serializers.Serializer[Any]):
    """The resource use of an agent and the processes of its work, over time."""

    id = Id(ids.AGENT)
    samples = SampleResponse(many=True)


class AgentLogResponse(serializers.Serializer[Any]):
    """The last lines of the log of an agent's process."""

    id = Id(ids.AGENT)
    text = serializers.CharField(allow_blank=True, trim_whitespace=False, initial="ready: testing-1\n")


class NodeResponse(serializers.Serializer[Any]):
    """A node."""

    name = serializers.CharField(initial="alpha")
    up = serializers.BooleanField(initial=True)
    cordoned = serializers.BooleanField(help_text="whether the node gets no new agents")
    agents = serializers.IntegerField(initial=6)
    max_agents = serializers.IntegerField(initial=16, help_text="maximum number of agents")
    types = serializers.ListField(
        child=serializers.CharField(),
        initial=["testing"],
        help_text="the agent types that it serves; empty: every type",
    )
    cpus = serializers.IntegerField(initial=8)
    load = serializers.FloatField(initial=0.72)
    memory_bytes = serializers.IntegerField(initial=16_777_216_000)
    memory_free_bytes = serializers.IntegerField(initial=9_663_676_416)


class AgentFilter(PageQuery):
    type = Text(max_length=60, required=False, initial="testing")
    node = Text(max_length=200, required=False, initial="alpha", help_text="a node name")
    state = serializers.MultipleChoiceField(choices=Agent.State.choices, required=False)
    all = serializers.BooleanField(default=False, help_text="include agents that have ended")


class Spawn(Strict):
    type = Text(max_length=60, initial="testing")
    count = serializers.IntegerField(default=1, min_value=1, max_value=100, initial=2)
    node = Text(
        max_length=200, required=False, allow_null=True, default=None, help_text="by default any node with room"
    )
    concurrency = serializers.IntegerField(required=False, allow_null=True, default=None, min_value=1, max_value=256)


class RegisterBody(Strict):
    type = Text(max_length=60, initial="testing")
    concurrency = serializers.IntegerField(
        default=1, min_value=1, max_value=256, help_text="maximum number of sorties that it holds at once"
    )


class EndQuery(Strict):
    mode = serializers.ChoiceField(["drain", "terminate", "now"], default="terminate")
    reason = Text(max_length=300, required=False, default="", initial="A new version is installed.")


class AgentLogQuery(Strict):
    lines = serializers.IntegerField(default=200, min_value=1, max_value=MAX_LINES)


class Agents(ApiView):
    @endpoint("agents.list", query=AgentFilter, response=page_of(AgentResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List live agents. With `all`, include those that have ended."""
        agents = Agent.objects.select_related("type", "node")
        if states := query.get("state"):
            agents = agents.filter(state__in=sorted(states))
        elif not query["all"]:
            agents = agents.filter(state__in=Agent.LIVE)
        if "type" in query:
            agents = agents.filter(type=query["type"])
        if "node" in query:
            agents = agents.filter(node__name=query["node"])
        return paginate(request, agents, query=query, serialize=lambda rows: _rows(request, rows))

    @endpoint("agents.register", body=RegisterBody, response=AgentResponse, status=201)
    def post(self, request: Request, *, body: Validated) -> Response:
        """Register an external agent, which can then claim sorties. Without heartbeats it is considered lost."""
        agent = external_agents.register(
            agent_type=body["type"], concurrency=body["concurrency"], by=actor_of(request).user
        )
        return Response(_row(request, agent), status=201, headers={"Location": f"/api/v1/agents/{agent.ref}"})


class SpawnAgents(ApiView):
    @endpoint("agents.spawn", body=Spawn, response=SpawnedResponse, status=202)
    def post(self, request: Request, *, body: Validated) -> Response:
        """Start agents on nodes: all of them, or none. Poll each until its state is no longer `spawning`."""
        spawned = operations.spawn(
            type=body["type"], count=body["count"], node=body["node"], concurrency=body["concurrency"]
        )
        rows = (
            Agent.objects.select_related("type", "node").filter(id__in=[agent.id for agent in spawned]).order_by("id")
        )
        headers = {"Location": f"/api/v1/agents/{rows[0].ref}"}
        return Response({"agents": _rows(request, list(rows))}, status=202, headers=headers)


class AgentDetail(ApiView):
    @endpoint("agents.read", response=AgentResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Get an agent."""
        return _row(request, _find(ref))

    @endpoint("agents.end", query=EndQuery, response=AgentResponse, status=202)
    def delete(self, request: Request, ref: str, *, query: Validated) -> Response:
        """End an agent: after its sorties (`drain`), after a grace period (`terminate`), or at once (`now`)."""
        agent = _find(ref)
        reason = query["reason"] or f"Ordered by {actor_of(request).name} ({query['mode']})."
        if agent.state not in Agent.LIVE:
            raise errors.Conflict(f"{agent.name} has already ended.")
        operations.order(agents=[agent.id], order=Agent.Order(query["mode"]), reason=reason)
        return Response(_row(request, _find(ref)), status=202, headers={"Location": f"/api/v1/agents/{ref}"})


class AgentHealth(ApiView):
    @endpoint("agents.read", response=HealthResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Check the health of an agent."""
        agent = _find(ref)
        return {
            "id": agent.ref,
            "name": agent.name,
            "state": agent.state,
            "health": roster.health_by_agent([agent])[agent.id],
        }


class SystemHealth(ApiView):
    @endpoint("agents.list", response=SystemHealthResponse)
    def get(self, request: Request) -> dict[str, Any]:
        """Check the health of all agents."""
        health = roster.health(list(agent_queries.live()))
        if health["remedy"]:
            health["remedy"] = f"For the fleet's operators: {health['remedy']}"
        return health


class AgentResources(ApiView):
    @endpoint("agents.read", response=ResourcesResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Get the resource use of an agent over time: CPUs, memory, processes."""
        agent = _find(ref)
        samples = list(agent_queries.samples(agent, limit=MAX_SAMPLES))
        return {"id": agent.ref, "samples": [{**sample, "at": sample["at"].isoformat()} for sample in samples]}


class AgentLogs(ApiView):
    @endpoint("agents.logs", query=AgentLogQuery, response=AgentLogResponse)
    def get(self, request: Request, ref: str, *, query: Validated) -> dict[str, Any]:
        """Get the last lines of the log of an agent's process."""
        agent = _find(ref)
        pieces = agent_queries.last_lines(agent, lines=query["lines"])
        return {"id": agent.ref, "text": "".join(piece.text for piece in pieces)}


class Nodes(ApiView):
    @endpoint("nodes.list", query=PageQuery, response=page_of(NodeResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List nodes."""
        return paginate(request, Node.objects.all(), query=query, serialize=roster.nodes, ordering="name")


def _find(ref: str) -> Agent:
    agent = Agent.objects.select_related("type", "node").filter(id=ids.decode(ids.AGENT, ref)).first()
    if agent is None:
        raise errors.NotFound(f"There is no agent {ref}.")
    return agent


def _row(request: Request, agent: Agent) -> dict[str, Any]:
    return _rows(request, [agent])[0]


def _rows(request: Request, agents: Sequence[Agent]) -> list[dict[str, Any]]:
    """Agents, each with the running sorties that the caller can see."""
    return roster.rows(agents, roster.running_by(agents, missions=visibility.missions(actor_of(request))))
