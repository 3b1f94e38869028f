"""Endpoints of the changes in workspaces: diffs and conflicts; resolve, merge and discard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.serializers import Strict, Text
from fleet.api.views import ApiView, Costly, actor_of
from fleet.limits import costs
from missions.api.responses import SortieDetailResponse
from missions.api.workspaces import responses
from missions.models import Conflict
from missions.operations.workspaces import diffs, discarding, merging, resolving, unmerged
from missions.queries import mission_lookup, sortie_json, visibility, workspaces

MAX_BYTES = 1_000_000  # of the patches in one response


class ConflictFilter(PageQuery):
    sortie = Text(max_length=200, required=False, initial="lint", help_text="only those of this sortie (id or key)")
    outcome = serializers.MultipleChoiceField(
        choices=["open", *(choice for choice, _ in Conflict.Outcome.choices if choice)], required=False
    )


class Resolve(Strict):
    decision = serializers.ChoiceField(
        ["retry", "from", "drop"],
        help_text="another attempt resolves it; `ref` replaces the change; or the change is dropped",
    )
    ref = Text(
        max_length=250, required=False, initial="fix-login", help_text="a branch, tag or commit of the repository"
    )


class MergeBody(Strict):
    into = Text(
        max_length=200,
        required=False,
        initial="next",
        help_text="a branch; by default the mission's own. Another one requires plan.execute",
    )


class Discard(Strict):
    confirm = serializers.BooleanField(default=False, help_text="false only lists the unmerged work")


class MissionDiffView(Costly):
    costly_methods = ("GET", "HEAD")

    @endpoint("missions.diff", response=responses.MissionDiffResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Get a mission's changes to its repository: what has landed, what is still to be merged, and running work."""
        mission = visibility.mission(actor_of(request), ref, "missions.diff")
        with _charge_git_time():
            return diffs.of_mission(mission, max_bytes=MAX_BYTES).as_json()


class SortieDiffView(Costly):
    costly_methods = ("GET", "HEAD")

    @endpoint("missions.diff", response=responses.SortieDiffResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Get a sortie's changes to the repository. A running attempt is not disturbed."""
        sortie = visibility.sortie(actor_of(request), ref, "missions.diff")
        with _charge_git_time():
            return diffs.of_sortie(sortie, max_bytes=MAX_BYTES).as_json()


class MissionConflicts(ApiView):
    @endpoint("missions.read", query=ConflictFilter, response=page_of(responses.ConflictResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> Response:
        """List the conflicts of a mission, newest first, and how they were resolved."""
        mission = visibility.mission(actor_of(request), ref)
        rows = workspaces.conflicts_of(mission)
        if "sortie" in query:
            rows = rows.filter(sortie=mission_lookup.find_sortie(mission, query["sortie"]))
        if outcomes := query.get("outcome"):
            rows = rows.filter(outcome__in=["" if outcome == "open" else outcome for outcome in outcomes])
        return paginate(
            request,
            rows,
            query=query,
            serialize=lambda page: [*map(workspaces.conflict_as_json, page)],
            ordering="-id",
        )


class ResolveConflict(Costly):
    @endpoint("sorties.resolve", body=Resolve, response=SortieDetailResponse, status=202, commits=True)
    def post(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Resolve a conflict that is waiting for a person. Requires plan.execute as `resume` does. In the mission of a
        template, `from` requires the permission to edit templates."""
        actor = actor_of(request)
        sortie = visibility.sortie(actor, ref, "sorties.resolve")
        if (body["decision"] == "from") != ("ref" in body):
            raise errors.Invalid(
                "The decision `from` requires `ref`; the other decisions do not allow it.", pointer="/ref"
            )
        with _charge_git_time():
            match body["decision"]:
                case "retry":
                    row = resolving.retry(sortie=sortie.id, can_execute=actor.can_execute)
                case "from":
                    row = resolving.replace(
                        sortie=sortie.id, revision=body["ref"], by=actor.user, can_execute=actor.can_execute
                    )
                case _:
                    row = resolving.drop(sortie=sortie.id)
        representation = {
            **sortie_json.of_sortie(row, visible=visibility.missions(actor)),
            "mission": row.mission.ref,
        }
        return Response(representation, status=202, headers={"Location": f"/api/v1/sorties/{row.ref}"})


class MergeMission(Costly):
    @endpoint("missions.merge", body=MergeBody, response=responses.MergedResponse, commits=True)
    def post(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Merge what has landed into a branch of the repository, which is created or moved. 409 if the branch is checked
        out, or if the repository rejects the commit."""
        actor = actor_of(request)
        mission = visibility.mission(actor, ref, "missions.merge")
        into = body.get("into", "")
        if into and into != workspaces.find(mission).branch and not actor.can_execute:
            raise errors.Forbidden(
                "Merging into a branch other than the mission's own requires plan.execute.",
                hint="Leave out `into`, or ask an admin for the permission.",
            )
        with _charge_git_time():
            merged = merging.merge(mission=mission.id, into=into)
        return {"mission": mission.ref, **merged.as_json()}


class DiscardMission(Costly):
    @endpoint("missions.discard", body=Discard, response=responses.DiscardedResponse, commits=True)
    def post(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Remove the branch, the commits and the copies of a mission that has ended. Without `confirm`, only list the
        unmerged work."""
        mission = visibility.mission(actor_of(request), ref, "missions.discard")
        discarding.require_discardable(mission)
        with _charge_git_time():
            unmerged_work = (
                discarding.discard(mission=mission.id) if body["confirm"] else unmerged.of_mission(mission.id)
            )
        return {"mission": mission.ref, "discarded": body["confirm"], "unmerged": unmerged_work.as_json()}


@contextmanager
def _charge_git_time() -> Iterator[None]:
    """Charge the caller for the time that git takes, which the thread's own CPU time does not include."""
    wall_start, cpu_start = time.monotonic(), time.thread_time()
    try:
        yield
    finally:
        wall_s, cpu_s = time.monotonic() - wall_start, time.thread_time() - cpu_start
        costs.add(max(0.0, wall_s - cpu_s))
