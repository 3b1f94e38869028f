"""Checkpoints over HTTP: capture, list, read, compare, verify, restore, resume, fork and delete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from checkpoints import operations
from checkpoints.api import responses
from checkpoints.models import Checkpoint
from checkpoints.queries import bounds, summaries, visibility
from fleet import errors, ids
from fleet.access.actor import Actor
from fleet.access.rules import Visibility
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.serializers import Id, Json, Strict, Text
from fleet.api.views import ApiView, Costly, actor_of
from missions import operations as missions
from missions.plan import PlanError
from missions.queries import mission_json
from missions.queries import visibility as mission_visibility
from missions.states import MissionState

MAX_EDIT_BYTES = 100_000
MAX_SORTIES = 1_000  # named in one fork


class Capture(Strict):
    """Exactly one of `mission` and `all`."""

    mission = Id(ids.MISSION, max_length=40, required=False)
    all = serializers.BooleanField(
        required=False, default=False, help_text="capture every live mission; only for admins"
    )
    name = Text(
        max_length=200, required=False, default="", allow_blank=True, initial="before-merge",
        help_text="retention never removes a named checkpoint",
    )  # fmt: skip
    note = Text(max_length=1_000, required=False, default="", allow_blank=True, initial="Before the merge of #12.")
    keep = serializers.BooleanField(required=False, default=False, help_text="retention never removes it")


class CheckpointChangeBody(Strict):
    """At least one of the two."""

    name = Text(
        max_length=200, required=False, allow_blank=True, initial="before-merge",
        help_text="retention never removes a named checkpoint",
    )  # fmt: skip
    keep = serializers.BooleanField(required=False, initial=True, help_text="retention never removes it")


class Filter(PageQuery):
    mission = Id(ids.MISSION, max_length=40, required=False)
    trigger = serializers.MultipleChoiceField(choices=Checkpoint.Trigger.choices, required=False)


class MissionSelection(Strict):
    mission = Id(
        ids.MISSION, max_length=40, required=False, help_text="required if the checkpoint has several missions"
    )


class ComparisonQuery(MissionSelection):
    other = Id(
        ids.CHECKPOINT,
        max_length=40,
        required=False,
        help_text="a later checkpoint; by default the mission as it is now",
    )


class Restore(MissionSelection):
    plan = Text(
        max_length=64, required=False, default="", allow_blank=True, initial=responses.PLAN_DIGEST,
        help_text="the digest of a recovery plan; 409 if the plan has changed since",
    )  # fmt: skip
    force = serializers.BooleanField(required=False, default=False, help_text="accept high risks")


class Fork(MissionSelection):
    sorties = serializers.ListField(
        child=Text(max_length=200), required=False, default=list, max_length=MAX_SORTIES, initial=["lint"],
        help_text="keys of sorties that run again, with everything that depends on them",
    )  # fmt: skip
    params = serializers.DictField(
        child=Json(max_bytes=100_000), required=False, default=dict, help_text="new values of the plan's inputs"
    )
    edit = Json(
        max_bytes=MAX_EDIT_BYTES, required=False,
        help_text="new versions of sorties, which run again: {sorties: {name: …}}, an object or YAML or JSON text",
    )  # fmt: skip
    name = Text(max_length=200, required=False, default="", allow_blank=True, initial="Repository audit, again")
    start = serializers.BooleanField(
        required=False, default=False, help_text="start it now; otherwise `resume` of the mission starts it"
    )


class Checkpoints(Costly):
    @endpoint("checkpoints.list", query=Filter, response=page_of(responses.CheckpointResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List the checkpoints of the caller's own and teams' missions; for admins, all checkpoints."""
        rows = visibility.checkpoints(actor_of(request), "checkpoints.list")
        if "mission" in query:
            rows = rows.filter(missions__contains=[ids.decode(ids.MISSION, query["mission"])])
        if triggers := query.get("trigger"):
            rows = rows.filter(trigger__in=sorted(triggers))
        return paginate(request, rows, query=query, serialize=lambda page: [*map(summaries.summary, page)])

    @endpoint("checkpoints.create", body=Capture, response=responses.CheckpointResponse, status=201, commits=True)
    def post(self, request: Request, *, body: Validated) -> Response:
        """Capture a mission, or all live missions, while they run."""
        actor = actor_of(request)
        details = {"name": body["name"], "note": body["note"], "keep": body["keep"], "by": actor.user}
        if body["all"] == ("mission" in body):
            raise errors.Invalid("Send either `mission` or `all`.")
        if "mission" in body:
            mission = mission_visibility.mission(actor, body["mission"], "missions.change")
            checkpoint = operations.capture(missions=[mission.id], **details)
        elif actor.visibility("checkpoints.create") is Visibility.ALL:
            checkpoint = operations.capture_all(**details)
        else:
            raise errors.Forbidden("Only an admin may capture all missions.", hint="Name a mission.")
        location = f"/api/v1/checkpoints/{checkpoint.ref}"
        return Response(summaries.summary(checkpoint), status=201, headers={"Location": location})


class LatestCheckpoint(ApiView):
    @endpoint("checkpoints.read", response=responses.CheckpointDetailResponse)
    def get(self, request: Request, mission: str) -> dict[str, Any]:
        """Get the newest checkpoint of a mission, even if the mission's rows are gone."""
        actor = actor_of(request)
        rows = visibility.checkpoints(actor).filter(missions__contains=[ids.decode(ids.MISSION, mission)])
        checkpoint = rows.first()
        if checkpoint is None:
            raise errors.NotFound(f"The mission {mission} has no checkpoint.")
        return _detail(actor, checkpoint)


class CheckpointDetail(Costly):
    costly_methods = ("DELETE",)

    @endpoint("checkpoints.read", response=responses.CheckpointDetailResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Get a checkpoint with its contents. A 409 means that its files are damaged."""
        actor = actor_of(request)
        return _detail(actor, visibility.checkpoint(actor, ref))

    @endpoint("checkpoints.change", body=CheckpointChangeBody, response=responses.CheckpointResponse)
    def patch(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Rename a checkpoint, or change whether retention may remove it."""
        checkpoint = visibility.checkpoint(actor_of(request), ref, "checkpoints.change")
        if not body:
            raise errors.Invalid("Send `name` or `keep`.")
        return summaries.summary(operations.change(checkpoint=checkpoint, **body))

    @endpoint("checkpoints.delete", response=None, status=204)
    def delete(self, request: Request, ref: str) -> Response:
        """Delete a checkpoint. Other checkpoints that share files with it stay intact."""
        operations.delete(checkpoint=visibility.checkpoint(actor_of(request), ref, "checkpoints.delete"))
        return Response(status=204)


class RecoveryPlanView(Costly):
    costly_methods = ("GET", "HEAD")

    @endpoint("checkpoints.read", query=MissionSelection, response=responses.RecoveryPlanResponse)
    def get(self, request: Request, ref: str, *, query: Validated) -> dict[str, Any]:
        """Get the recovery plan: what a restore would do now, and its risks. Changes nothing."""
        actor = actor_of(request)
        checkpoint = visibility.checkpoint(actor, ref)
        mission = visibility.mission_of(checkpoint, query.get("mission"))
        visibility.check_rows(actor, mission)
        return bounds.recovery_plan(operations.recovery_plan(checkpoint=checkpoint, mission=mission))


class CheckpointDiffView(Costly):
    costly_methods = ("GET", "HEAD")

    @endpoint("checkpoints.read", query=ComparisonQuery, response=responses.DifferenceResponse)
    def get(self, request: Request, ref: str, *, query: Validated) -> dict[str, Any]:
        """Compare a mission in this checkpoint with another checkpoint, or with the mission as it is now."""
        actor = actor_of(request)
        checkpoint = visibility.checkpoint(actor, ref)
        other = visibility.checkpoint(actor, query["other"]) if "other" in query else None
        mission = visibility.mission_of(checkpoint, query.get("mission"))
        if other is None:
            visibility.check_rows(actor, mission)
        return bounds.difference(operations.diff(before=checkpoint, after=other, mission=mission))


class Verify(Costly):
    @endpoint("checkpoints.read", response=responses.VerifiedResponse)
    def post(self, request: Request, ref: str) -> dict[str, Any]:
        """Read every byte of a checkpoint's files, and list the damage."""
        actor = actor_of(request)
        checkpoint = visibility.checkpoint(actor, ref)
        damages = operations.verify(checkpoints=[checkpoint])
        refs = {ref for damage in damages for ref in damage.shared_by}
        rows = visibility.checkpoints(actor).filter(id__in=[ids.decode(ids.CHECKPOINT, ref) for ref in refs])
        visible = {row.ref for row in rows.only("id")}
        return {
            "checkpoint": checkpoint.ref,
            "intact": not damages,
            "damages": [
                {"message": damage.message, "shared_by": [ref for ref in damage.shared_by if ref in visible]}
                for damage in damages
            ],
        }


class RestoreCheckpoint(Costly):
    @endpoint("checkpoints.restore", body=Restore, response=responses.RestoredResponse, status=202, commits=True)
    def post(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Return a mission to its state in the checkpoint, and leave it paused. The replaced state is captured first.
        Requires plan.execute, as `resume` of a mission does."""
        return _restore(actor_of(request), ref, body, resume=False)


class ResumeCheckpoint(Costly):
    @endpoint("checkpoints.restore", body=Restore, response=responses.RestoredResponse, status=202, commits=True)
    def post(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Restore a mission, then resume it, unless it had ended in the checkpoint."""
        return _restore(actor_of(request), ref, body, resume=True)


class ForkCheckpoint(Costly):
    large_body_methods = ("POST",)

    @endpoint("checkpoints.fork", body=Fork, response=responses.ForkedResponse, status=201, commits=True)
    def post(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Create a mission that continues from a checkpoint. Requires plan.execute, as a launch does."""
        actor = actor_of(request)
        checkpoint = visibility.checkpoint(actor, ref, "checkpoints.fork")
        edit = body.get("edit", "")
        try:
            forked = operations.fork(
                checkpoint=checkpoint,
                mission=visibility.mission_of(checkpoint, body.get("mission")),
                sorties=body["sorties"],
                params=body["params"],
                edit=edit if isinstance(edit, str) else json.dumps(edit, ensure_ascii=False),
                name=body["name"],
                can_execute=actor.can_execute,
                by=actor.user,
            )
        except PlanError as error:
            raise ValidationError(_fork_errors(error, body["params"])) from None
        mission = forked.mission
        if body["start"] and mission.state == MissionState.PLANNED:
            mission = missions.resume(mission=mission.id, can_execute=actor.can_execute)
        lists = {name: getattr(forked, name) for name in ("rerun", "dropped", "stale")}
        data = {
            "mission": mission_json.summary(mission),
            **{name: list(keys[: bounds.MAX_KEYS]) for name, keys in lists.items()},
            "counts": {name: len(keys) for name, keys in lists.items()},
        }
        return Response(data, status=201, headers={"Location": f"/api/v1/missions/{mission.ref}"})


def _detail(actor: Actor, checkpoint: Checkpoint) -> dict[str, Any]:
    return bounds.detail(checkpoint, fleet=actor.visibility("checkpoints.read") is Visibility.ALL)


def _restore(actor: Actor, ref: str, body: Validated, *, resume: bool) -> Response:
    checkpoint = visibility.checkpoint(actor, ref, "checkpoints.restore")
    mission_id = visibility.mission_of(checkpoint, body.get("mission"))
    visibility.check_rows(actor, mission_id, "missions.resume")
    restored = operations.restore(
        checkpoint=checkpoint,
        mission=mission_id,
        can_execute=actor.can_execute,
        force=body["force"],
        plan=body["plan"],
        by=actor.user,
    )
    mission = restored.mission
    if resume and mission.state == MissionState.PAUSED:
        mission = missions.resume(mission=mission.id, can_execute=actor.can_execute)
    safety = restored.safety.ref if restored.safety else None
    data = {
        "mission": mission_json.summary(mission),
        "checkpoint": checkpoint.ref,
        "safety": safety,
        "replaced": restored.replaced,
    }
    return Response(data, status=202, headers={"Location": f"/api/v1/missions/{mission.ref}"})


def _fork_errors(error: PlanError, params: Mapping[str, Any]) -> dict[str, Any]:
    """The errors of a fork as validation errors of `params` or `edit`."""
    details: dict[str, Any] = {}
    for entry in error.problems:
        field = "params" if entry.where.startswith("inputs") and params else "edit"
        details.setdefault(field, []).append(str(entry))
    return details
