"""Agents, their types and nodes over HTTP; and agents from outside, which register themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.request import Request
from rest_framework.response import Response

from agents import operations as agents
from agents import queries as agent_queries
from agents.models import Agent, AgentType, Node
from agents.operations import types
from fleet import errors, ids
from fleet.api.endpoints import Given, endpoint
from fleet.api.http import conditional
from fleet.api.http.paging import Paged, of, page
from fleet.api.serializers import Id, Strict, Text
from fleet.api.views import ApiView, actor
from missions.api import shapes
from missions.api.flying import Report, mine
from missions.operations import external_agents
from missions.queries import roster, visibility

SAMPLES = 200  # of a history, in one answer
LINES = 2_000


class AgentAnswer(serializers.Serializer[Any]):
    """An agent, as `fleet_agents list --json` has it."""

    id = Id(ids.AGENT)
    name = serializers.CharField(initial="testing-1")
    type = serializers.CharField(initial="testing")
    node = serializers.CharField(allow_null=True, initial="alpha", help_text="null for one from outside")
    pid = serializers.IntegerField(initial=4_711, help_text="0: none yet")
    state = serializers.ChoiceField(Agent.State.choices, initial="busy")
    order = serializers.CharField(allow_blank=True, help_text="what its node is to do with it")
    concurrency = serializers.IntegerField(initial=1, help_text="sorties that it flies at once")
    sorties = serializers.ListField(child=serializers.CharField(initial="lint"), help_text="keys of those it flies")
    flown = serializers.IntegerField(initial=12)
    crashes = serializers.IntegerField(initial=0)
    heard_s_ago = serializers.FloatField(initial=1.2)
    age_s = serializers.FloatField(initial=340.5)
    reason = serializers.CharField(allow_blank=True)


class SpawnedAnswer(serializers.Serializer[Any]):
    """Agents that have been ordered; their nodes start them."""

    agents = AgentAnswer(many=True)


class HealthAnswer(serializers.Serializer[Any]):
    """Whether an agent gets on."""

    id = Id(ids.AGENT)
    name = serializers.CharField(initial="testing-1")
    state = serializers.ChoiceField(Agent.State.choices, initial="busy")
    health = serializers.CharField(initial="well", help_text="a word, or a sentence that says what is wrong")


class SystemHealthAnswer(serializers.Serializer[Any]):
    """Whether all agents get on, which types lack one, and what to do about that."""

    well = serializers.BooleanField(initial=True)
    agents = HealthAnswer(many=True)
    missing = serializers.ListField(child=serializers.CharField(), initial=[], help_text="types")
    remedy = serializers.CharField(initial="", help_text="what to do about that")


class SampleAnswer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    step_s = serializers.FloatField(initial=10.0, help_text="the time that it stands for")
    cpu = serializers.FloatField(initial=0.35, help_text="processors in use")
    memory_bytes = serializers.IntegerField(initial=48_234_496)
    processes = serializers.IntegerField(initial=3)


class ResourcesAnswer(serializers.Serializer[Any]):
    """What an agent and the processes that work for it use, and used."""

    id = Id(ids.AGENT)
    samples = SampleAnswer(many=True)


class AgentLogAnswer(serializers.Serializer[Any]):
    """The last lines of what an agent's process printed."""

    id = Id(ids.AGENT)
    text = serializers.CharField(allow_blank=True, trim_whitespace=False, initial="ready: testing-1\n")


class TypeAnswer(serializers.Serializer[Any]):
    """An agent type."""

    name = serializers.CharField(initial="testing")
    description = serializers.CharField(allow_blank=True, initial="Whether it does what it says.")
    queue = serializers.CharField(initial="agent.testing")
    enabled = serializers.BooleanField(initial=True)
    agents = serializers.IntegerField(initial=1, help_text="that each node keeps")
    most_agents = serializers.IntegerField(initial=0, help_text="in the whole fleet; 0: any number")
    concurrency = serializers.IntegerField(initial=1)
    at_once = serializers.IntegerField(initial=0, help_text="sorties in the whole fleet; 0: as many as there are slots")
    autoscale = serializers.BooleanField(help_text="whether agents are started and ended as work comes and goes")
    memory_mb = serializers.IntegerField(initial=0, help_text="of one attempt; 0: no limit")
    disk_mb = serializers.IntegerField(initial=0, help_text="of one attempt's own folder; 0: no limit")
    longest_s = serializers.IntegerField(initial=0, help_text="of one attempt; 0: no limit")
    alert_silence_s = serializers.IntegerField(
        initial=0, allow_null=True, help_text="without output before an alert; 0: never; null: the fleet's default"
    )
    network = serializers.BooleanField(initial=True, help_text="whether its work reaches the network")
    outside = serializers.BooleanField(help_text="no node starts its agents: they register themselves")
    takes_prompt = serializers.BooleanField(help_text="whether it takes an `objective`")
    live = serializers.IntegerField(initial=1, help_text="agents now")


class OneTypeAnswer(TypeAnswer):
    """An agent type, and for admins its command and the environment of its drivers."""

    prompt_argv = serializers.ListField(
        child=serializers.CharField(), allow_null=True, initial=["claude", "-p"],
        help_text="the command that gets prompts; empty: none. For admins; null for others",
    )  # fmt: skip
    env_allow = serializers.ListField(
        child=serializers.CharField(), allow_null=True, initial=["HTTPS_PROXY"],
        help_text="variables of the host that drivers see. For admins; null for others",
    )  # fmt: skip
    env_secret = serializers.ListField(
        child=serializers.CharField(), allow_null=True, initial=["OPENAI_API_KEY"],
        help_text="more such variables, whose values are masked. For admins; null for others",
    )  # fmt: skip
    readable = serializers.ListField(
        child=serializers.CharField(), allow_null=True, initial=["/srv/models"],
        help_text="paths of its hosts that its work may read. For admins; null for others",
    )  # fmt: skip


class ChangeType(Strict):
    """Settings of an agent type: those that are left out stay as they are."""

    description = Text(max_length=200, required=False, allow_blank=True)
    prompt_argv = serializers.ListField(
        child=serializers.CharField(trim_whitespace=False), required=False, max_length=types.MOST_TEXTS,
        initial=["claude", "-p"], help_text="a program and its arguments, which gets a prompt on standard input",
    )  # fmt: skip
    concurrency = serializers.IntegerField(required=False, min_value=1, max_value=256)
    agents = serializers.IntegerField(required=False, min_value=0, max_value=32_767)
    most_agents = serializers.IntegerField(required=False, min_value=0, max_value=32_767)
    at_once = serializers.IntegerField(required=False, min_value=0, max_value=2_147_483_647)
    autoscale = serializers.BooleanField(required=False)
    memory_mb = serializers.IntegerField(required=False, min_value=0, max_value=2_147_483_647)
    disk_mb = serializers.IntegerField(required=False, min_value=0, max_value=2_147_483_647)
    longest_s = serializers.IntegerField(required=False, min_value=0, max_value=2_147_483_647)
    env_allow = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=types.MOST_TEXTS, initial=["HTTPS_PROXY"],
    )  # fmt: skip
    env_secret = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=types.MOST_TEXTS, initial=["OPENAI_API_KEY"],
    )  # fmt: skip
    readable = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=types.MOST_TEXTS, initial=["/srv/models"],
    )  # fmt: skip
    network = serializers.BooleanField(required=False)
    alert_silence_s = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=2_147_483_647)
    outside = serializers.BooleanField(required=False)
    enabled = serializers.BooleanField(required=False)


class NodeAnswer(serializers.Serializer[Any]):
    """A node."""

    name = serializers.CharField(initial="alpha")
    up = serializers.BooleanField(initial=True)
    cordoned = serializers.BooleanField(help_text="takes no new agents")
    agents = serializers.IntegerField(initial=6)
    places = serializers.IntegerField(initial=16, help_text="agents that it takes at most")
    cpus = serializers.IntegerField(initial=8)
    load = serializers.FloatField(initial=0.72)
    memory_bytes = serializers.IntegerField(initial=16_777_216_000)
    memory_free_bytes = serializers.IntegerField(initial=9_663_676_416)


class Filter(Paged):
    type = Text(max_length=60, required=False, initial="testing")
    node = Text(max_length=200, required=False, initial="alpha", help_text="its name")
    state = serializers.MultipleChoiceField(choices=Agent.State.choices, required=False)
    all = serializers.BooleanField(default=False, help_text="those that have ended too")


class Spawn(Strict):
    type = Text(max_length=60, initial="testing")
    count = serializers.IntegerField(default=1, min_value=1, max_value=100, initial=2)
    node = Text(
        max_length=200, required=False, allow_null=True, default=None, help_text="any that has room, unless told"
    )
    concurrency = serializers.IntegerField(required=False, allow_null=True, default=None, min_value=1, max_value=256)


class Register(Strict):
    type = Text(max_length=60, initial="testing")
    concurrency = serializers.IntegerField(
        default=1, min_value=1, max_value=256, help_text="sorties that it holds at once, at most"
    )


class Ending(Strict):
    how = serializers.ChoiceField(["drain", "terminate", "now"], default="terminate")
    reason = Text(max_length=300, required=False, default="", initial="A new version is installed.")


class Shown(serializers.CharField):
    """A text that may be a lease token. One that is none holds nothing, which the answer says; it is no fault of the body, or
    all the others would be lost with it."""

    def run_validation(self, data: Any = empty) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class Beat(Strict):
    tokens = serializers.ListField(
        child=Shown(allow_blank=True),
        default=list,
        max_length=1_000,
        initial=[shapes.TOKEN],
        help_text="leases to extend; what is no token, or no good one, is not in `held`",
    )


class AgentReport(Report):
    sortie = Id(ids.SORTIE, max_length=40)


class LogQuery(Strict):
    lines = serializers.IntegerField(default=200, min_value=1, max_value=LINES)


class Agents(ApiView):
    @endpoint("agents.list", query=Filter, answer=of(AgentAnswer))
    def get(self, request: Request, *, asked: Given) -> Response:
        """Agents: those that live, unless told otherwise."""
        found = Agent.objects.select_related("type", "node")
        if states := asked.get("state"):
            found = found.filter(state__in=sorted(states))
        elif not asked["all"]:
            found = found.filter(state__in=Agent.LIVE)
        if "type" in asked:
            found = found.filter(type=asked["type"])
        if "node" in asked:
            found = found.filter(node__name=asked["node"])
        return page(request, found, asked=asked, shape=lambda rows: _rows(request, rows))

    @endpoint("agents.register", body=Register, answer=AgentAnswer, status=201)
    def post(self, request: Request, *, given: Given) -> Response:
        """Register an agent from outside; then claim sorties for it. It is lost where nothing is heard of it."""
        agent = external_agents.register(
            agent_type=given["type"], concurrency=given["concurrency"], by=actor(request).user
        )
        return Response(_row(request, agent), status=201, headers={"Location": f"/api/v1/agents/{agent.ref}"})


class SpawnAgents(ApiView):
    @endpoint("agents.spawn", body=Spawn, answer=SpawnedAnswer, status=202)
    def post(self, request: Request, *, given: Given) -> Response:
        """Have nodes start agents: all of them, or none. Look at each until its state is no longer `spawning`."""
        made = agents.spawn(
            type=given["type"], count=given["count"], node=given["node"], concurrency=given["concurrency"]
        )
        found = Agent.objects.select_related("type", "node").filter(id__in=[one.id for one in made]).order_by("id")
        headers = {"Location": f"/api/v1/agents/{found[0].ref}"}
        return Response({"agents": _rows(request, list(found))}, status=202, headers=headers)


class OneAgent(ApiView):
    @endpoint("agents.read", answer=AgentAnswer)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """An agent."""
        return _row(request, _find(ref))

    @endpoint("agents.end", query=Ending, answer=AgentAnswer, status=202)
    def delete(self, request: Request, ref: str, *, asked: Given) -> Response:
        """End it: let what it flies end (`drain`), for a while (`terminate`), or stop that (`now`)."""
        agent = _find(ref)
        reason = asked["reason"] or f"{actor(request).name} ordered it to {asked['how']}."
        if agent.state not in Agent.LIVE:
            raise errors.Conflict(f"{agent.name} has ended already.")
        agents.order(agents=[agent.id], what=Agent.Order(asked["how"]), reason=reason)
        return Response(_row(request, _find(ref)), status=202, headers={"Location": f"/api/v1/agents/{ref}"})


class AgentHeartbeat(ApiView):
    @endpoint("agents.beat", body=Beat, answer=shapes.RenewedAnswer)
    def post(self, request: Request, ref: str, *, given: Given) -> dict[str, Any]:
        """It lives; and these leases are extended. What is not `held` is lost, and what is `cancelled` is to be stopped."""
        renewed = external_agents.heartbeat(agent=mine(actor(request), ref), tokens=given["tokens"])
        return {
            "held": sorted(token.partition(".")[0] for token in renewed.held),
            "cancelled": sorted(token.partition(".")[0] for token in renewed.cancelled),
        }


class AgentLeave(ApiView):
    @endpoint("agents.beat", answer=None, status=204)
    def post(self, request: Request, ref: str) -> None:
        """It ends, in good order: what it holds is queued again at once, and nobody takes it for lost."""
        external_agents.leave(agent=mine(actor(request), ref))


class AgentProgress(ApiView):
    @endpoint("agents.beat", body=AgentReport, answer=None, status=204)
    def post(self, request: Request, ref: str, *, given: Given) -> None:
        """Report on a sortie that it holds."""
        who = actor(request)
        mine(who, ref)
        token = given.get("token", "")
        if not token or token.partition(".")[0] != given["sortie"]:
            raise errors.Invalid("This is no lease of that sortie.", hint="Send the token that the claim answered.")
        external_agents.progress(
            token=token, fraction=given.get("fraction"), note=given["note"], output=given["output"]
        )


class AgentHealth(ApiView):
    @endpoint("agents.read", answer=HealthAnswer)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Whether it gets on."""
        agent = _find(ref)
        return {"id": agent.ref, "name": agent.name, "state": agent.state, "health": roster.verdicts([agent])[agent.id]}


class SystemHealth(ApiView):
    @endpoint("agents.list", answer=SystemHealthAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """Whether all agents get on."""
        told = roster.health(list(agent_queries.live()))
        return {**told, "remedy": told["remedy"] and f"For who runs the fleet: {told['remedy']}"}


class Resources(ApiView):
    @endpoint("agents.read", answer=ResourcesAnswer)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Its history: processors in use, memory, processes."""
        agent = _find(ref)
        samples = list(agent_queries.samples(agent, most=SAMPLES))
        return {"id": agent.ref, "samples": [{**one, "at": one["at"].isoformat()} for one in samples]}


class AgentLogs(ApiView):
    @endpoint("agents.logs", query=LogQuery, answer=AgentLogAnswer)
    def get(self, request: Request, ref: str, *, asked: Given) -> dict[str, Any]:
        """The last lines that its process printed."""
        agent = _find(ref)
        pieces = agent_queries.last_lines(agent, lines=asked["lines"])
        return {"id": agent.ref, "text": "".join(piece.text for piece in pieces)}


class AgentTypes(ApiView):
    @endpoint("agent-types.list", query=Paged, answer=of(TypeAnswer))
    def get(self, request: Request, *, asked: Given) -> Response:
        """The agent types."""
        return page(request, AgentType.objects.all(), asked=asked, shape=roster.types, ordering="name")


class OneAgentType(ApiView):
    @endpoint("agent-types.list", answer=OneTypeAnswer)
    def get(self, request: Request, ref: str) -> Response:
        """An agent type, by its name."""
        shown = _type(request, types.find(ref))
        return Response(shown, headers={"ETag": _tag(shown)})

    @endpoint("agent-types.change", body=ChangeType, answer=OneTypeAnswer, guarded=True)
    def patch(self, request: Request, ref: str, *, given: Given) -> Response:
        """Change settings of an agent type. Nodes see it within a second; what runs is left to run."""
        with conditional.alone(f"agent-type:{ref}"):
            conditional.guard(request=request, current=_tag(_type(request, types.find(ref))))
            shown = _type(request, types.change(name=ref, changes=given))
        return Response(shown, headers={"ETag": _tag(shown)})


class Nodes(ApiView):
    @endpoint("nodes.list", query=Paged, answer=of(NodeAnswer))
    def get(self, request: Request, *, asked: Given) -> Response:
        """The nodes."""
        return page(request, Node.objects.all(), asked=asked, shape=roster.nodes, ordering="name")


def _type(request: Request, kind: AgentType) -> dict[str, Any]:
    (row,) = roster.types([kind])
    is_admin = actor(request).may("agent-types.change")
    secret = {name: getattr(kind, name) if is_admin else None for name in types.TEXTS}
    return {**row, **secret}


def _tag(shown: dict[str, Any]) -> str:
    """Of its settings: how many of its agents live is none of them."""
    return conditional.tag({name: value for name, value in shown.items() if name != "live"})


def _find(ref: str) -> Agent:
    found = Agent.objects.select_related("type", "node").filter(id=ids.decode(ids.AGENT, ref)).first()
    if found is None:
        raise errors.NotFound(f"There is no agent {ref}.")
    return found


def _row(request: Request, agent: Agent) -> dict[str, Any]:
    return _rows(request, [agent])[0]


def _rows(request: Request, found: Sequence[Agent]) -> list[dict[str, Any]]:
    """With the sorties that the caller may know of."""
    return roster.rows(found, roster.flown_by(found, of=visibility.missions(actor(request))))
