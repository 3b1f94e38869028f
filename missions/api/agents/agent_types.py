"""Endpoints of agent types."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents.models import AgentType
from agents.operations import types
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http import conditional
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.serializers import Strict, Text
from fleet.api.views import ApiView, actor_of
from missions.queries import roster


class TypeResponse(serializers.Serializer[Any]):
    """An agent type."""

    name = serializers.CharField(initial="testing")
    description = serializers.CharField(allow_blank=True, initial="Runs the tests.")
    queue = serializers.CharField(initial="agent.testing")
    enabled = serializers.BooleanField(initial=True)
    agents = serializers.IntegerField(initial=1, help_text="agents that each node keeps running")
    max_agents = serializers.IntegerField(initial=0, help_text="maximum in the whole fleet; 0: no limit")
    concurrency = serializers.IntegerField(initial=1)
    max_running = serializers.IntegerField(
        initial=0, help_text="sorties running at once in the whole fleet; 0: no limit"
    )
    autoscale = serializers.BooleanField(help_text="whether the number of agents follows the work")
    memory_mb = serializers.IntegerField(
        initial=0, help_text="limit of one attempt; 0: 4 GB, or half of the host's memory if that is less"
    )
    disk_mb = serializers.IntegerField(
        initial=0, help_text="limit of the scratch folder and the repository's copy of one attempt; 0: 10 GB"
    )
    max_duration_s = serializers.IntegerField(initial=0, help_text="limit of one attempt; 0: no limit")
    alert_silence_s = serializers.IntegerField(
        initial=0,
        allow_null=True,
        help_text="alert after this time without output; 0: never; null: the fleet's default",
    )
    network = serializers.BooleanField(initial=True, help_text="whether its workloads have access to the network")
    external = serializers.BooleanField(
        help_text="whether its agents are external: they register themselves, and no node starts them"
    )
    accepts_external = serializers.BooleanField(
        help_text="whether external agents may register for it, besides the agents that nodes start"
    )
    takes_prompt = serializers.BooleanField(help_text="whether it accepts an `objective`")
    live = serializers.IntegerField(initial=1, help_text="agents that are live now")


class TypeDetailResponse(TypeResponse):
    """An agent type; for admins, also its command and the environment of its drivers."""

    prompt_argv = serializers.ListField(
        child=serializers.CharField(), allow_null=True, initial=["claude", "-p"],
        help_text="the command that runs prompts; empty: none. Null unless the caller is an admin",
    )  # fmt: skip
    env_allow = serializers.ListField(
        child=serializers.CharField(), allow_null=True, initial=["HTTPS_PROXY"],
        help_text="environment variables of the host that drivers can see. Null unless the caller is an admin",
    )  # fmt: skip
    env_secret = serializers.ListField(
        child=serializers.CharField(), allow_null=True, initial=["OPENAI_API_KEY"],
        help_text="more such variables, whose values are masked in output. Null unless the caller is an admin",
    )  # fmt: skip
    readable = serializers.ListField(
        child=serializers.CharField(), allow_null=True, initial=["/srv/models"],
        help_text="paths of its hosts that its workloads may read. Null unless the caller is an admin",
    )  # fmt: skip


class ChangeType(Strict):
    """Settings of an agent type. Omitted settings do not change."""

    description = Text(max_length=200, required=False, allow_blank=True)
    prompt_argv = serializers.ListField(
        child=serializers.CharField(trim_whitespace=False), required=False, max_length=types.MAX_STRINGS,
        initial=["claude", "-p"], help_text="a program and its arguments; it gets the prompt on standard input",
    )  # fmt: skip
    concurrency = serializers.IntegerField(required=False, min_value=1, max_value=256)
    agents = serializers.IntegerField(required=False, min_value=0, max_value=32_767)
    max_agents = serializers.IntegerField(required=False, min_value=0, max_value=32_767)
    max_running = serializers.IntegerField(required=False, min_value=0, max_value=2_147_483_647)
    autoscale = serializers.BooleanField(required=False)
    memory_mb = serializers.IntegerField(required=False, min_value=0, max_value=2_147_483_647)
    disk_mb = serializers.IntegerField(required=False, min_value=0, max_value=2_147_483_647)
    max_duration_s = serializers.IntegerField(required=False, min_value=0, max_value=2_147_483_647)
    env_allow = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=types.MAX_STRINGS, initial=["HTTPS_PROXY"],
    )  # fmt: skip
    env_secret = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=types.MAX_STRINGS, initial=["OPENAI_API_KEY"],
    )  # fmt: skip
    readable = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=types.MAX_STRINGS, initial=["/srv/models"],
    )  # fmt: skip
    network = serializers.BooleanField(required=False)
    alert_silence_s = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=2_147_483_647)
    external = serializers.BooleanField(required=False)
    accepts_external = serializers.BooleanField(required=False)
    enabled = serializers.BooleanField(required=False)


class AgentTypes(ApiView):
    @endpoint("agent-types.list", query=PageQuery, response=page_of(TypeResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List agent types."""
        return paginate(request, AgentType.objects.all(), query=query, serialize=roster.types, ordering="name")


class AgentTypeDetail(ApiView):
    @endpoint("agent-types.list", response=TypeDetailResponse)
    def get(self, request: Request, ref: str) -> Response:
        """Get an agent type, by its name."""
        representation = _type(request, types.find(ref))
        return Response(representation, headers={"ETag": _etag(representation)})

    @endpoint("agent-types.change", body=ChangeType, response=TypeDetailResponse, if_match=True)
    def patch(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Change settings of an agent type. Nodes apply them within a second; running work is not affected."""
        with conditional.exclusive(f"agent-type:{ref}"):
            conditional.check_if_match(request=request, current=_etag(_type(request, types.find(ref))))
            representation = _type(request, types.change(name=ref, changes=body))
        return Response(representation, headers={"ETag": _etag(representation)})


def _type(request: Request, agent_type: AgentType) -> dict[str, Any]:
    (row,) = roster.types([agent_type])
    is_admin = actor_of(request).may("agent-types.change")
    restricted = {name: getattr(agent_type, name) if is_admin else None for name in types.STRING_LISTS}
    return {**row, **restricted}


def _etag(representation: dict[str, Any]) -> str:
    """The ETag of the settings, without the number of live agents."""
    return conditional.etag({name: value for name, value in representation.items() if name != "live"})
