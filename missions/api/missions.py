"""Missions over HTTP: launch, list, read, change, cancel, pause, resume and retry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import ids
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http import conditional
from fleet.api.http.paging import LimitQuery, PageQuery, page_of, paginate
from fleet.api.openapi import headers
from fleet.api.serializers import Id, Json, Strict, Text
from fleet.api.views import ApiView, Costly, actor_of
from missions import operations
from missions.api import launching, responses
from missions.api.agents import external_agents
from missions.models import Attempt, Mission, Need, Sortie
from missions.plan.document import structure
from missions.queries import mission_json, mission_lookup, mission_results, sortie_json, visibility, workspaces
from missions.states import FINAL_SORTIE_STATES, MissionState, SortieState

MAX_NODES = 2_000  # of a graph, in one response
MAX_EDGE_BYTES = 4_000_000  # of the keys in the edges of a graph, in one response
MAX_PIECES, MAX_OUTPUT_BYTES = 500, 2_000_000  # of output, in one response
PLAN = {  # an example in the OpenAPI document
    "mission": "Repository audit",
    "inputs": {"branch": {"default": "main"}},
    "sorties": {
        "inventory": {"agent": "documentation", "run": ["git", "ls-tree", "-r", "--name-only", "{{ inputs.branch }}"]},
        "lint": {"agent": "testing", "needs": ["inventory"], "run": "ruff check .", "allow_failure": True},
    },
}


@extend_schema_serializer(
    examples=[
        OpenApiExample("a plan", value={"plan": PLAN, "params": {"branch": "main"}, "team": None}),
        OpenApiExample("a template", value={"template": "audit", "params": {"branch": "main"}}),
        OpenApiExample(
            "an objective",
            value={"objective": "Add a health endpoint.", "agent": "backend", "folder": "/srv/projects/shop"},
        ),
    ]
)
class LaunchBody(Strict):
    """Exactly one of `plan`, `template` and `objective`."""

    plan = Json(
        max_bytes=settings.FLEET_PLAN_BYTES,
        required=False,
        help_text="an object, or YAML or JSON text",
    )
    template = Text(max_length=60, required=False, help_text="the name of a template")
    objective = Text(max_length=20_000, required=False, help_text="a task in words, for the agent type `agent`")
    agent = Text(max_length=60, required=False, help_text="with `objective`: an agent type that takes prompts")
    params = serializers.DictField(
        child=Json(max_bytes=100_000), required=False, default=dict, help_text="the plan's inputs"
    )
    folder = Text(
        max_length=1_000,
        required=False,
        help_text="the working folder of its sorties on the agents' hosts; below one of FLEET_FOLDERS, which is empty in a new "
        "fleet",
    )
    team = Text(
        max_length=150,
        required=False,
        allow_null=True,
        help_text="one of the caller's teams, whose members can see the mission",
    )
    start = serializers.BooleanField(
        default=True, help_text="false creates the mission without starting it; `resume` starts it"
    )


class Check(Strict):
    plan = Json(max_bytes=settings.FLEET_PLAN_BYTES, initial=PLAN, help_text="an object, or YAML or JSON text")


class MissionFilter(PageQuery):
    state = serializers.MultipleChoiceField(choices=MissionState.choices, required=False)
    name = Text(max_length=200, required=False, initial="audit", help_text="part of the name")
    team = Text(max_length=150, required=False, initial="payments")
    created_by = Text(max_length=150, required=False, initial="ann", help_text="a user name")
    schedule = Id(ids.SCHEDULE, required=False, help_text="launched by this schedule")
    ordering = serializers.ChoiceField(["id", "-id"], default="-id", help_text="oldest or newest first")


class MissionChange(Strict):
    priority = serializers.IntegerField(
        required=False, min_value=-1_000, max_value=1_000, initial=10, help_text="higher is more urgent"
    )
    team = Text(max_length=150, required=False, allow_null=True)


class Reason(Strict):
    reason = Text(max_length=500, required=False, default="", allow_blank=True, initial="The branch is wrong.")


class SortieFilter(LimitQuery):
    state = serializers.MultipleChoiceField(choices=SortieState.choices, required=False)
    results = serializers.BooleanField(default=True, help_text="false omits the results")
    after = Text(
        max_length=200,
        required=False,
        initial="lint",
        help_text="start after this sortie (id or key), in the order of the plan",
    )


class Missions(Costly):
    large_body_methods = ("POST",)

    @endpoint("missions.list", query=MissionFilter, response=page_of(responses.MissionResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List the missions of the caller and of its teams; for admins, all missions."""
        missions = visibility.missions(actor_of(request), "missions.list").only(*mission_json.SUMMARY_FIELDS)
        if states := query.get("state"):
            missions = missions.filter(state__in=sorted(states))
        if "name" in query:
            missions = missions.filter(name__icontains=query["name"])
        if "team" in query:
            missions = _filter_by(missions, "team", Group.objects.filter(name=query["team"]))
        if "created_by" in query:
            missions = _filter_by(missions, "created_by", User.objects.filter(username=query["created_by"]))
        if "schedule" in query:
            missions = missions.filter(schedule=ids.decode(ids.SCHEDULE, query["schedule"]))
        return paginate(request, missions, query=query, serialize=_summaries, ordering=query["ordering"])

    @endpoint("missions.create", body=LaunchBody, response=responses.MissionDetailResponse, status=201)
    def post(self, request: Request, *, body: Validated) -> Response:
        """Launch a mission."""
        mission = launching.launch(actor=actor_of(request), body=body)
        return Response(_detail(mission), status=201, headers={"Location": f"/api/v1/missions/{mission.ref}"})


class PlanCheck(Costly):
    large_body_methods = ("POST",)

    @endpoint("missions.create", body=Check, response=responses.CheckResponse)
    def post(self, request: Request, *, body: Validated) -> dict[str, Any]:
        """Check a plan without launching it. A 422 lists all of its errors."""
        summary = launching.check(body["plan"])
        return {
            "mission": summary.name,
            "sorties": list(summary.keys),
            "runs_code": summary.runs_code,
            "warnings": [
                {"where": warning.where, "detail": f"{warning.text} {warning.fix}"} for warning in summary.warnings
            ],
        }


class PlanSchema(ApiView):
    @endpoint("root.read", response=responses.PlanSchemaResponse)
    def get(self, request: Request) -> Response:
        """Get the plan format as a JSON Schema (draft 2020-12), for editors and clients."""
        return Response({"schema": structure.SCHEMA})


class MissionDetail(ApiView):
    @endpoint(
        "missions.read", response=responses.MissionDetailResponse, extra_headers=[headers.IF_NONE_MATCH, headers.ETAG]
    )
    def get(self, request: Request, ref: str) -> Response:
        """Get a mission."""
        mission = visibility.mission(actor_of(request), ref)
        representation = _detail(mission)
        return Response(representation, headers={"ETag": _etag(representation)})

    @endpoint("missions.change", body=MissionChange, response=responses.MissionDetailResponse, if_match=True)
    def patch(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Change the priority or the team. A new priority applies to all sorties that have not ended."""
        actor = actor_of(request)
        with conditional.exclusive(str(ids.decode(ids.MISSION, ref))):
            mission = visibility.mission(actor, ref, "missions.change")
            conditional.check_if_match(request=request, current=_etag(_detail(mission)))
            if "priority" in body:
                operations.prioritise(mission=mission.id, priority=body["priority"])
            if "team" in body:
                operations.share(mission=mission.id, team=launching.find_team(actor, body["team"]))
        representation = _detail(Mission.objects.get(id=mission.id))
        return Response(representation, headers={"ETag": _etag(representation)})


class MissionAction(ApiView):
    """An asynchronous action on a mission: 202, with its Location."""

    def accepted(self, mission: Mission) -> Response:
        return Response(_detail(mission), status=202, headers={"Location": f"/api/v1/missions/{mission.ref}"})


class CancelMission(MissionAction):
    @endpoint("missions.cancel", body=Reason, response=responses.MissionDetailResponse, status=202)
    def post(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Cancel a mission. It is `cancelling` until all running work has stopped."""
        mission = visibility.mission(actor_of(request), ref, "missions.cancel")
        return self.accepted(operations.cancel(mission=mission.id, reason=body["reason"]))


class PauseMission(MissionAction):
    @endpoint("missions.pause", body=Reason, response=responses.MissionDetailResponse, status=202)
    def post(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Pause a mission. Running sorties finish; no others start."""
        mission = visibility.mission(actor_of(request), ref, "missions.pause")
        return self.accepted(operations.pause(mission=mission.id, reason=body["reason"]))


class ResumeMission(MissionAction):
    @endpoint("missions.resume", response=responses.MissionDetailResponse, status=202)
    def post(self, request: Request, ref: str) -> Response:
        """Resume a paused mission, or start one that was created with `start: false`. Requires plan.execute if the
        mission can run code and was not launched from a template."""
        actor = actor_of(request)
        mission = visibility.mission(actor, ref, "missions.resume")
        return self.accepted(operations.resume(mission=mission.id, can_execute=actor.can_execute))


class RetryMission(MissionAction):
    @endpoint("missions.retry", response=responses.MissionDetailResponse, status=202)
    def post(self, request: Request, ref: str) -> Response:
        """Retry all sorties that failed, were cancelled or were skipped. Requires plan.execute as `resume` does."""
        actor = actor_of(request)
        mission = visibility.mission(actor, ref, "missions.retry")
        return self.accepted(operations.retry(mission=mission.id, can_execute=actor.can_execute))


class MissionProgress(ApiView):
    @endpoint("missions.read", response=responses.ProgressResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Get the progress of a mission."""
        return mission_json.progress(visibility.mission(actor_of(request), ref))

    @endpoint("missions.report", body=external_agents.ReportBody, response=None, status=204)
    def patch(self, request: Request, ref: str, *, body: Validated) -> None:
        """Report on the sortie of the lease token, which must belong to this mission."""
        external_agents.report_to_mission(actor=actor_of(request), ref=ref, body=body)


class MissionSorties(ApiView):
    @endpoint("missions.read", query=SortieFilter, response=page_of(responses.SortieResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> dict[str, Any]:
        """List the sorties of a mission, in the order of the plan."""
        mission = visibility.mission(actor_of(request), ref)
        limit = query.get("limit", 50)
        after = mission_lookup.find_sortie(mission, query["after"]) if "after" in query else None
        items, more = sortie_json.page_of_mission(
            mission,
            states=query.get("state") or None,
            after=after,
            limit=limit,
            results=query["results"],
            visible=visibility.missions(actor_of(request)),
        )
        next_url = None
        if more:
            parameters = request.query_params.copy()
            parameters["after"] = items[-1]["id"]
            next_url = f"{request.build_absolute_uri(request.path)}?{parameters.urlencode()}"
        return {"next": next_url, "previous": None, "results": items}


class MissionGraph(ApiView):
    @endpoint("missions.read", response=responses.GraphResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Get the graph of a mission: its sorties and their needs."""
        mission = visibility.mission(actor_of(request), ref)
        sorties = list(Sortie.objects.filter(mission=mission).order_by("turn", "id")[: MAX_NODES + 1])
        nodes = sorties[:MAX_NODES]
        keys = {sortie.id: sortie.key for sortie in nodes}
        needs = Need.objects.filter(sortie__in=list(keys)).order_by("sortie", "upstream")
        edges: list[dict[str, str]] = []
        bytes_left = MAX_EDGE_BYTES
        for upstream, sortie in needs.values_list("upstream", "sortie").iterator():
            if upstream not in keys:
                continue
            edge = {"upstream": keys[upstream], "sortie": keys[sortie]}
            bytes_left -= sum(map(len, edge.values()))
            if bytes_left < 0:
                break
            edges.append(edge)
        return {
            "nodes": [
                {"id": node.ref, "key": node.key, "agent_type": node.agent_type_id, "state": node.state}
                for node in nodes
            ],
            "edges": edges,
            "truncated": len(sorties) > MAX_NODES or bytes_left < 0,
        }


class MissionTimeline(ApiView):
    @endpoint("missions.read", query=PageQuery, response=page_of(responses.TimelineEntryResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> Response:
        """List the attempts of a mission, in the order in which they started."""
        mission = visibility.mission(actor_of(request), ref)
        attempts = Attempt.objects.filter(sortie__mission=mission).select_related("sortie").defer("result", "resume")
        return paginate(
            request, attempts, query=query, serialize=lambda rows: [*map(sortie_json.of_attempt, rows)], ordering="id"
        )


class LogsQuery(Strict):
    sortie = Text(
        max_length=200,
        required=False,
        initial="lint",
        help_text="a sortie's key or id, or the name of a matrix; all sorties by default",
    )
    after = serializers.IntegerField(
        default=0, min_value=0, max_value=2**63 - 1, help_text="start after the chunk with this id"
    )


class MissionLogs(ApiView):
    @endpoint("missions.read", query=LogsQuery, response=responses.MissionLogResponse)
    def get(self, request: Request, ref: str, *, query: Validated) -> dict[str, Any]:
        """Get the output of all attempts of a mission, interleaved by time."""
        mission = visibility.mission(actor_of(request), ref)
        selected = Sortie.objects.filter(mission=mission)
        sorties = None
        if "sortie" in query:
            sorties = [sortie.id for sortie in mission_lookup.find_sorties(mission, query["sortie"])]
            selected = selected.filter(id__in=sorties)
        # Read before the pieces; otherwise the last ones could be missed.
        ended = not selected.exclude(state__in=FINAL_SORTIE_STATES).exists()
        pieces, more = mission_results.output_of_mission(
            mission=mission, sorties=sorties, after=query["after"], limit=MAX_PIECES, max_bytes=MAX_OUTPUT_BYTES
        )
        return {
            "mission": mission.ref,
            "pieces": pieces,
            "after": pieces[-1]["id"] if pieces else query["after"],
            "ended": ended and not more,
        }


class MissionArtifacts(ApiView):
    @endpoint("missions.read", query=PageQuery, response=page_of(responses.ArtifactResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> Response:
        """List the artifacts of a mission."""
        artifacts = mission_results.artifacts(visibility.mission(actor_of(request), ref))
        return paginate(
            request,
            artifacts,
            query=query,
            serialize=lambda files: [*map(mission_results.artifact_as_json, files)],
            ordering="id",
        )


def _filter_by(missions: QuerySet[Mission], field: str, rows: QuerySet[Any]) -> QuerySet[Mission]:
    """Filter by a related row. It is looked up first, because Postgres plans better for its id than for a join."""
    row_id = rows.values_list("id", flat=True).first()
    return missions.none() if row_id is None else missions.filter(**{field: row_id})


def _summaries(missions: Sequence[Mission]) -> list[dict[str, Any]]:
    counts = mission_json.counts([mission.id for mission in missions])
    return [mission_json.summary(mission, counts.get(mission.id, {})) for mission in missions]


def _detail(mission: Mission) -> dict[str, Any]:
    return {
        **mission_json.summary(mission),
        "priority": mission.priority,
        "team": mission.team.name if mission.team else None,
        "created_by": mission.created_by.username if mission.created_by else None,
        "inputs": mission.inputs,
        "template": mission.template or None,
        "workspace": workspaces.workspace(mission),
    }


def _etag(representation: dict[str, Any]) -> str:
    return conditional.etag({name: value for name, value in representation.items() if name != "elapsed_s"})
