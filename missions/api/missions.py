"""Missions over HTTP: launch, list, see, change, cancel, pause, resume, retry."""

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
from fleet.api.endpoints import Given, endpoint
from fleet.api.http import conditional
from fleet.api.http.paging import Limited, Paged, of, page
from fleet.api.openapi import headers
from fleet.api.serializers import Json, Strict, Text
from fleet.api.views import ApiView, Costly, actor
from missions import operations
from missions.api import flying, launching, shapes
from missions.models import FINAL, Attempt, Mission, Need, Sortie
from missions.plan.document import structure
from missions.queries import reads, visibility
from missions.states import MissionState, SortieState

NODES = 2_000  # of a graph, in one answer
PIECES = 500  # of output, in one answer
PLAN = {  # in the document's examples
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
        OpenApiExample("a task in words", value={"objective": "Add a health endpoint.", "agent": "backend"}),
    ]
)
class Launch(Strict):
    """Exactly one of `plan`, `template` and `objective`."""

    plan = Json(
        most=settings.FLEET_PLAN_BYTES,
        required=False,
        help_text="an object, or its YAML or JSON as a text",
    )
    template = Text(max_length=60, required=False, help_text="the name of a plan that operators offer")
    objective = Text(max_length=20_000, required=False, help_text="what is to be done, in words; `agent` says by whom")
    agent = Text(max_length=60, required=False, help_text="with `objective`: an agent type that takes prompts")
    params = serializers.DictField(
        child=Json(most=100_000), required=False, default=dict, help_text="the plan's inputs"
    )
    folder = Text(
        max_length=1_000,
        required=False,
        help_text="where its sorties work, on the agents' hosts; below one of FLEET_FOLDERS",
    )
    team = Text(
        max_length=150, required=False, allow_null=True, help_text="one of the caller's teams, which sees it too"
    )
    start = serializers.BooleanField(default=True, help_text="false: create it; `resume` starts it")


class Check(Strict):
    plan = Json(most=settings.FLEET_PLAN_BYTES, initial=PLAN, help_text="an object, or its YAML or JSON as a text")


class Filter(Paged):
    state = serializers.MultipleChoiceField(choices=MissionState.choices, required=False)
    name = Text(max_length=200, required=False, initial="audit", help_text="is in its name")
    team = Text(max_length=150, required=False, initial="payments")
    created_by = Text(max_length=150, required=False, initial="ann", help_text="a user's name")
    ordering = serializers.ChoiceField(["id", "-id"], default="-id", help_text="the oldest or the newest first")


class Change(Strict):
    priority = serializers.IntegerField(
        required=False, min_value=-1_000, max_value=1_000, initial=10, help_text="the larger, the more urgent"
    )
    team = Text(max_length=150, required=False, allow_null=True)


class Reason(Strict):
    reason = Text(max_length=500, required=False, default="", allow_blank=True, initial="The branch is wrong.")


class SortieFilter(Limited):
    state = serializers.MultipleChoiceField(choices=SortieState.choices, required=False)
    results = serializers.BooleanField(default=True, help_text="false leaves them out")
    after = Text(
        max_length=200,
        required=False,
        initial="lint",
        help_text="behind this sortie (its id or key), in the plan's order",
    )


class Missions(Costly):
    @endpoint("missions.list", query=Filter, answer=of(shapes.MissionAnswer))
    def get(self, request: Request, *, asked: Given) -> Response:
        """Missions: one's own and one's teams'."""
        found = visibility.missions(actor(request), "missions.list").only(*reads.SUMMARISED)
        if states := asked.get("state"):
            found = found.filter(state__in=sorted(states))
        if "name" in asked:
            found = found.filter(name__icontains=asked["name"])
        if "team" in asked:
            found = _of(found, team=Group.objects.filter(name=asked["team"]))
        if "created_by" in asked:
            found = _of(found, created_by=User.objects.filter(username=asked["created_by"]))
        return page(request, found, asked=asked, shape=_summaries, ordering=asked["ordering"])

    @endpoint("missions.create", body=Launch, answer=shapes.OneMissionAnswer, status=201)
    def post(self, request: Request, *, given: Given) -> Response:
        """Launch a mission."""
        mission = launching.launch(who=actor(request), given=given)
        headers = {"Location": f"/api/v1/missions/{mission.ref}"}
        return Response(_one(mission), status=201, headers=headers)


class PlanCheck(Costly):
    @endpoint("missions.create", body=Check, answer=shapes.Checked)
    def post(self, request: Request, *, given: Given) -> dict[str, Any]:
        """Check a plan and launch nothing: 422 tells every fault that it has."""
        found = launching.check(given["plan"])
        return {
            "mission": found.name,
            "sorties": list(found.keys),
            "executes": found.executes,
            "warnings": [{"where": one.where, "detail": f"{one.text} {one.fix}"} for one in found.warnings],
        }


class PlanSchema(ApiView):
    @endpoint("root.read", answer=shapes.PlanSchemaAnswer)
    def get(self, request: Request) -> Response:
        """What a plan may hold, as a JSON Schema (draft 2020-12), for editors and clients."""
        return Response({"schema": structure.SCHEMA})


class OneMission(ApiView):
    @endpoint("missions.read", answer=shapes.OneMissionAnswer, told=[headers.IF_NONE_MATCH, headers.ETAG])
    def get(self, request: Request, ref: str) -> Response:
        """A mission."""
        mission = visibility.mission(actor(request), ref)
        shown = _one(mission)
        return Response(shown, headers={"ETag": _tag(shown)})

    @endpoint("missions.change", body=Change, answer=shapes.OneMissionAnswer, guarded=True)
    def patch(self, request: Request, ref: str, *, given: Given) -> Response:
        """Change its priority, which its sorties that are not done take too, or its team."""
        who = actor(request)
        with conditional.alone(str(ids.decode(ids.MISSION, ref))):
            mission = visibility.mission(who, ref, "missions.change")
            conditional.guard(request=request, current=_tag(_one(mission)))
            if "priority" in given:
                operations.prioritise(mission=mission.id, priority=given["priority"])
            if "team" in given:
                operations.share(mission=mission.id, team=launching.team(who, given["team"]))
        shown = _one(Mission.objects.get(id=mission.id))
        return Response(shown, headers={"ETag": _tag(shown)})


class MissionAction(ApiView):
    """Something that is done to a mission and takes its time: 202, and where to look."""

    def accepted(self, mission: Mission) -> Response:
        return Response(_one(mission), status=202, headers={"Location": f"/api/v1/missions/{mission.ref}"})


class Cancel(MissionAction):
    @endpoint("missions.cancel", body=Reason, answer=shapes.OneMissionAnswer, status=202)
    def post(self, request: Request, ref: str, *, given: Given) -> Response:
        """Cancel it: it is *cancelling* until all that runs has been stopped."""
        mission = visibility.mission(actor(request), ref, "missions.cancel")
        return self.accepted(operations.cancel(mission=mission.id, reason=given["reason"]))


class Pause(MissionAction):
    @endpoint("missions.pause", body=Reason, answer=shapes.OneMissionAnswer, status=202)
    def post(self, request: Request, ref: str, *, given: Given) -> Response:
        """Pause it: what runs may end, and nothing more is started."""
        mission = visibility.mission(actor(request), ref, "missions.pause")
        return self.accepted(operations.pause(mission=mission.id, reason=given["reason"]))


class Resume(MissionAction):
    @endpoint("missions.resume", answer=shapes.OneMissionAnswer, status=202)
    def post(self, request: Request, ref: str) -> Response:
        """Go on with a paused mission, or start one that was only created. Where it may run code of a plan that is no
        template, plan.execute is asked for again."""
        who = actor(request)
        mission = visibility.mission(who, ref, "missions.resume")
        return self.accepted(operations.resume(mission=mission.id, executes=who.executes))


class Retry(MissionAction):
    @endpoint("missions.retry", answer=shapes.OneMissionAnswer, status=202)
    def post(self, request: Request, ref: str) -> Response:
        """Reopen all that failed, was cancelled or was skipped. plan.execute is asked for as by `resume`."""
        who = actor(request)
        mission = visibility.mission(who, ref, "missions.retry")
        return self.accepted(operations.retry(mission=mission.id, executes=who.executes))


class Progress(ApiView):
    @endpoint("missions.read", answer=shapes.ProgressAnswer)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """How far it is."""
        return reads.progress(visibility.mission(actor(request), ref))

    @endpoint("missions.report", body=flying.Report, answer=None, status=204)
    def patch(self, request: Request, ref: str, *, given: Given) -> None:
        """Report on the sortie whose lease token is shown, which must be of this mission."""
        flying.report_to_mission(who=actor(request), ref=ref, given=given)


class MissionSorties(ApiView):
    @endpoint("missions.read", query=SortieFilter, answer=of(shapes.SortieAnswer))
    def get(self, request: Request, ref: str, *, asked: Given) -> dict[str, Any]:
        """Its sorties, in the plan's order."""
        mission = visibility.mission(actor(request), ref)
        limit = asked.get("limit", 50)
        after = reads.find_sortie(mission, asked["after"]) if "after" in asked else None
        items = list(
            reads.items(
                mission,
                states=asked.get("state") or None,
                after=after,
                most=limit + 1,
                results=asked["results"],
                visible=visibility.missions(actor(request)),
            )
        )
        following = None
        if len(items) > limit:
            items.pop()
            query = request.query_params.copy()
            query["after"] = items[-1]["id"]
            following = f"{request.build_absolute_uri(request.path)}?{query.urlencode()}"
        return {"next": following, "previous": None, "results": items}


class Graph(ApiView):
    @endpoint("missions.read", answer=shapes.GraphAnswer)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Its sorties and what needs what."""
        mission = visibility.mission(actor(request), ref)
        sorties = list(Sortie.objects.filter(mission=mission).order_by("turn", "id")[: NODES + 1])
        shown = sorties[:NODES]
        keys = {sortie.id: sortie.key for sortie in shown}
        edges = (
            Need.objects.filter(sortie__in=list(keys)).order_by("sortie", "upstream").values_list("upstream", "sortie")
        )
        return {
            "nodes": [
                {"id": one.ref, "key": one.key, "agent_type": one.agent_type_id, "state": one.state} for one in shown
            ],
            "edges": [
                {"upstream": keys[upstream], "sortie": keys[sortie]} for upstream, sortie in edges if upstream in keys
            ],
            "truncated": len(sorties) > NODES,
        }


class Timeline(ApiView):
    @endpoint("missions.read", query=Paged, answer=of(shapes.Bar))
    def get(self, request: Request, ref: str, *, asked: Given) -> Response:
        """Its attempts, in the order in which they began."""
        mission = visibility.mission(actor(request), ref)
        found = Attempt.objects.filter(sortie__mission=mission).select_related("sortie").defer("result")
        return page(request, found, asked=asked, shape=lambda rows: [reads.bar(one) for one in rows], ordering="id")


class LogsQuery(Strict):
    sortie = Text(
        max_length=200,
        required=False,
        initial="lint",
        help_text="a sortie's key or id, or the name of a matrix; all sorties by default",
    )
    after = serializers.IntegerField(
        default=0, min_value=0, max_value=2**63 - 1, help_text="behind the piece with this id"
    )


class Logs(ApiView):
    @endpoint("missions.read", query=LogsQuery, answer=shapes.MissionLogAnswer)
    def get(self, request: Request, ref: str, *, asked: Given) -> dict[str, Any]:
        """What its sorties printed, in all their attempts, interleaved by time."""
        mission = visibility.mission(actor(request), ref)
        chosen = Sortie.objects.filter(mission=mission)
        sorties = None
        if "sortie" in asked:
            sorties = [sortie.id for sortie in reads.find_sorties(mission, asked["sortie"])]
            chosen = chosen.filter(id__in=sorties)
        ended = not chosen.exclude(state__in=FINAL).exists()  # before the pieces are read, or the last could be missed
        pieces = reads.output_of_mission(mission=mission, sorties=sorties, after=asked["after"], most=PIECES)
        return {
            "mission": mission.ref,
            "pieces": pieces,
            "after": pieces[-1]["id"] if pieces else asked["after"],
            "ended": ended and len(pieces) < PIECES,
        }


class Artifacts(ApiView):
    @endpoint("missions.read", query=Paged, answer=of(shapes.ArtifactAnswer))
    def get(self, request: Request, ref: str, *, asked: Given) -> Response:
        """The files that its accepted attempts gave out."""
        found = reads.artifacts(visibility.mission(actor(request), ref))
        return page(request, found, asked=asked, shape=lambda files: [*map(reads.artifact, files)], ordering="id")


def _of(missions: QuerySet[Mission], **whose: QuerySet[Any]) -> QuerySet[Mission]:
    """Whose id it is, is asked first: Postgres knows how many missions an id has, and plans for it, and not for a name."""
    ((field, found),) = whose.items()
    one = found.values_list("id", flat=True).first()
    return missions.none() if one is None else missions.filter(**{field: one})


def _summaries(missions: Sequence[Mission]) -> list[dict[str, Any]]:
    counted = reads.counts([mission.id for mission in missions])
    return [reads.summary(mission, counted.get(mission.id, {})) for mission in missions]


def _one(mission: Mission) -> dict[str, Any]:
    return {
        **reads.summary(mission),
        "priority": mission.priority,
        "team": mission.team.name if mission.team else None,
        "created_by": mission.created_by.username if mission.created_by else None,
        "inputs": mission.inputs,
        "template": mission.template or None,
    }


def _tag(shown: dict[str, Any]) -> str:
    return conditional.tag({name: value for name, value in shown.items() if name != "elapsed_s"})
