"""Endpoints of schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors, ids
from fleet.access.actor import Actor
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http import conditional
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.openapi import headers
from fleet.api.openapi.examples import MOMENT
from fleet.api.serializers import Id, Json, Strict, Text
from fleet.api.views import ApiView, Costly, actor_of
from missions import folders
from missions.api import launching
from missions.models import CatchUp, Overlap, Tick
from missions.operations import schedules as operations
from missions.operations.schedules import editing
from missions.queries import schedules

PLAN = {"mission": "Nightly check", "sorties": {"lint": {"agent": "testing", "run": "ruff check ."}}}  # an example


class TickResponse(serializers.Serializer[Any]):
    """The outcome of one scheduled time."""

    at = serializers.DateTimeField(initial=MOMENT, help_text="the scheduled time, or the time of the request")
    outcome = serializers.ChoiceField(Tick.Outcome.choices, initial="launched")
    reason = serializers.CharField(allow_blank=True, help_text="why it is waiting, was skipped or failed")
    missed = serializers.IntegerField(initial=0, help_text="the number of earlier missed times that it covers")
    requested = serializers.BooleanField(initial=False, help_text="whether it was requested with `run`")
    mission = Id(ids.MISSION, allow_null=True)
    decided_at = serializers.DateTimeField(initial=MOMENT)


class ScheduleResponse(serializers.Serializer[Any]):
    """A schedule, with its last tick."""

    id = Id(ids.SCHEDULE)
    name = serializers.CharField(initial="nightly")
    cron = serializers.CharField(initial="30 2 * * *")
    timezone = serializers.CharField(initial="America/New_York")
    overlap = serializers.ChoiceField(Overlap.choices, initial="skip")
    catch_up = serializers.ChoiceField(CatchUp.choices, initial="once")
    deadline_s = serializers.FloatField(initial=0.0)
    paused = serializers.BooleanField(initial=False)
    reason = serializers.CharField(allow_blank=True, help_text="why it is paused")
    owner = serializers.CharField(allow_null=True, initial="ann", help_text="the user whose permissions it runs with")
    operator = serializers.BooleanField(initial=False, help_text="whether it runs with the host operator's permissions")
    team = serializers.CharField(allow_null=True, initial="payments")
    template = serializers.CharField(allow_null=True, initial=None)
    next_at = serializers.DateTimeField(allow_null=True, initial=MOMENT)
    last = TickResponse(allow_null=True)
    runs = serializers.IntegerField(initial=12)
    skips = serializers.IntegerField(initial=1, help_text="times that were skipped or missed")
    failures = serializers.IntegerField(initial=0, help_text="launches that were refused")
    failures_in_a_row = serializers.IntegerField(initial=0)
    revision = serializers.IntegerField(initial=1, help_text="increases with each change by a user")
    created_at = serializers.DateTimeField(initial=MOMENT)
    changed_at = serializers.DateTimeField(initial=MOMENT)


class ScheduleDetailResponse(ScheduleResponse):
    """A schedule with all of its fields."""

    params = serializers.DictField(initial={"day": "{{ schedule.date }}"})
    folder = serializers.CharField(allow_blank=True, initial="")
    upcoming = serializers.ListField(child=serializers.DateTimeField(), initial=[MOMENT], help_text="the next times")


class PreviewResponse(serializers.Serializer[Any]):
    """The next times of a cron expression."""

    cron = serializers.CharField(initial="30 2 * * *")
    timezone = serializers.CharField(initial="America/New_York")
    explanation = serializers.CharField(initial="At 02:30 every day")
    times = serializers.ListField(child=serializers.DateTimeField(), initial=[MOMENT])


class _CommonFields(Strict):
    """The fields that are the same in a new schedule and in a change."""

    overlap = serializers.ChoiceField(
        Overlap.choices,
        required=False,
        initial="skip",
        help_text="what to do while an earlier mission is still running",
    )
    catch_up = serializers.ChoiceField(
        CatchUp.choices,
        required=False,
        initial="once",
        help_text="what to do about times missed while no control loop ran",
    )
    deadline_s = serializers.FloatField(
        required=False,
        min_value=0,
        max_value=editing.MAX_DEADLINE_S,
        initial=0,
        help_text="skip a launch that is later than this; 0: never",
    )
    plan = Json(
        max_bytes=settings.FLEET_PLAN_BYTES, required=False, initial=PLAN, help_text="an object, or YAML or JSON text"
    )
    template = Text(max_length=60, required=False, help_text="the name of a template")
    params = serializers.DictField(
        child=Json(max_bytes=100_000),
        required=False,
        initial={"day": "{{ schedule.date }}"},
        help_text="the plan's inputs; `{{ schedule.at }}`, `.date` and `.name` are those of each launch",
    )
    folder = Text(max_length=1_000, required=False, allow_blank=True, help_text="as for a mission")
    team = Text(max_length=150, required=False, allow_null=True, help_text="one of the caller's teams")


class NewSchedule(_CommonFields):
    """A schedule of the caller. Exactly one of `plan` and `template`."""

    name = Text(max_length=editing.MAX_NAME, initial="nightly")
    cron = Text(max_length=100, initial="30 2 * * *", help_text="five fields, or an alias such as @daily")
    timezone = Text(max_length=60, required=False, default="UTC", initial="America/New_York")
    paused = serializers.BooleanField(default=False)


class ScheduleChange(_CommonFields):
    """The fields to change. A new `cron` or `timezone` applies from now on."""

    name = Text(max_length=editing.MAX_NAME, required=False, initial="nightly")
    cron = Text(max_length=100, required=False, initial="30 2 * * *")
    timezone = Text(max_length=60, required=False, initial="America/New_York")


class ScheduleFilter(PageQuery):
    name = Text(max_length=60, required=False, initial="nightly")
    paused = serializers.BooleanField(required=False)


class PreviewQuery(Strict):
    cron = Text(max_length=100, initial="30 2 * * *")
    timezone = Text(max_length=60, required=False, default="UTC", initial="America/New_York")
    limit = serializers.IntegerField(default=schedules.UPCOMING, min_value=1, max_value=schedules.MAX_UPCOMING)


class PauseReason(Strict):
    reason = Text(max_length=500, required=False, default="", allow_blank=True, initial="During the migration.")


class Schedules(Costly):
    large_body_methods = ("POST",)

    @endpoint("schedules.list", query=ScheduleFilter, response=page_of(ScheduleResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List the schedules of the caller and of its teams; for admins, all schedules."""
        rows = schedules.visible(actor_of(request), "schedules.list")
        if "name" in query:
            rows = rows.filter(name=query["name"])
        if "paused" in query:
            rows = rows.filter(paused=query["paused"])
        return paginate(request, rows, query=query, serialize=schedules.as_json, ordering="-id")

    @endpoint("schedules.create", body=NewSchedule, response=ScheduleDetailResponse, status=201)
    def post(self, request: Request, *, body: Validated) -> Response:
        """Create a schedule. Its plan is checked as if it were launched now."""
        actor = actor_of(request)
        if actor.user is None:
            raise errors.Forbidden("A schedule needs an owner, with whose permissions it runs.")
        values = {"params": {}, **_settings(actor, body)}
        row = operations.create(owner=actor.user, paused=body["paused"], **values)
        return Response(schedules.detail(row), status=201, headers={"Location": f"/api/v1/schedules/{row.ref}"})


class PreviewSchedule(ApiView):
    @endpoint("schedules.preview", query=PreviewQuery, response=PreviewResponse)
    def get(self, request: Request, *, query: Validated) -> dict[str, Any]:
        """List the next times of a cron expression, in its time zone."""
        return schedules.preview(cron_text=query["cron"], timezone=query["timezone"], number=query["limit"])


class ScheduleDetail(Costly):
    costly_methods = large_body_methods = ("PATCH",)

    @endpoint("schedules.read", response=ScheduleDetailResponse, extra_headers=[headers.IF_NONE_MATCH, headers.ETAG])
    def get(self, request: Request, ref: str) -> Response:
        """Get a schedule."""
        representation = schedules.detail(schedules.schedule(actor_of(request), ref))
        return Response(representation, headers={"ETag": _etag(representation)})

    @endpoint("schedules.change", body=ScheduleChange, response=ScheduleDetailResponse, if_match=True)
    def patch(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Change a schedule. The new settings are checked as if it were launched now."""
        actor = actor_of(request)
        with conditional.exclusive(str(ids.decode(ids.SCHEDULE, ref))):
            row = schedules.schedule(actor, ref, "schedules.change")
            conditional.check_if_match(request=request, current=_etag(schedules.detail(row)))
            if changes := _settings(actor, body):
                row = operations.change(schedule=row.id, can_execute=actor.can_execute, changes=changes)
        representation = schedules.detail(row)
        return Response(representation, headers={"ETag": _etag(representation)})

    @endpoint("schedules.delete", response=None, status=204)
    def delete(self, request: Request, ref: str) -> Response:
        """Delete a schedule and the record of its ticks. Its missions stay."""
        operations.delete(schedule=schedules.schedule(actor_of(request), ref, "schedules.delete").id)
        return Response(status=204)


class ScheduleTicks(ApiView):
    @endpoint("schedules.read", query=PageQuery, response=page_of(TickResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> Response:
        """List the ticks of a schedule, newest first: the outcome of each scheduled time."""
        rows = schedules.ticks(schedules.schedule(actor_of(request), ref))
        return paginate(
            request, rows, query=query, serialize=lambda page: [*map(schedules.tick_as_json, page)], ordering="-id"
        )


class PauseSchedule(ApiView):
    @endpoint("schedules.pause", body=PauseReason, response=ScheduleDetailResponse)
    def post(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Pause a schedule: nothing is launched until it is resumed. Running missions continue."""
        row = schedules.schedule(actor_of(request), ref, "schedules.pause")
        return schedules.detail(operations.pause(schedule=row.id, reason=body["reason"]))


class ResumeSchedule(Costly):
    @endpoint("schedules.resume", response=ScheduleDetailResponse)
    def post(self, request: Request, ref: str) -> dict[str, Any]:
        """Resume a schedule. Times missed during the pause are not caught up."""
        actor = actor_of(request)
        row = schedules.schedule(actor, ref, "schedules.resume")
        return schedules.detail(operations.resume(schedule=row.id, can_execute=actor.can_execute))


class RunSchedule(Costly):
    @endpoint("schedules.run", response=TickResponse, status=202)
    def post(self, request: Request, ref: str) -> Response:
        """Launch a schedule now, with its owner's permissions. Its next scheduled time does not change."""
        actor = actor_of(request)
        row = schedules.schedule(actor, ref, "schedules.run")
        tick = operations.run_now(schedule=row.id, can_execute=actor.can_execute)
        location = f"missions/{tick.mission.ref}" if tick.mission else f"schedules/{row.ref}/ticks"
        return Response(schedules.tick_as_json(tick), status=202, headers={"Location": f"/api/v1/{location}"})


def _settings(actor: Actor, body: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a schedule in a body, as `operations.create` and `operations.change` take them."""
    names = ("name", "cron", "timezone", "overlap", "catch_up", "deadline_s")
    values: dict[str, Any] = {name: body[name] for name in names if name in body}
    if "plan" in body and "template" in body:
        raise errors.Invalid("Send exactly one of plan and template.")
    if "plan" in body:
        values |= {"plan": launching.plan_text(body["plan"]), "template": ""}
    if "template" in body:
        values |= {"template": body["template"], "plan": ""}
    if "params" in body:
        values["params"] = dict(body["params"])
    if "folder" in body:
        values["folder"] = folders.folder_for_api(body["folder"])
    if "team" in body:
        values["team"] = launching.find_team(actor, body["team"])
    return values


def _etag(representation: dict[str, Any]) -> str:
    return conditional.etag({name: value for name, value in representation.items() if name != "upcoming"})
