"""Response serializers for the OpenAPI document. They match `fleet_mission … --json` (docs/commands.md)."""

from __future__ import annotations

import hashlib
from typing import Any

from rest_framework import serializers

from fleet import ids
from fleet.api.openapi.examples import MOMENT
from fleet.api.serializers import Id
from missions.models import Attempt, Change, WaitsOn
from missions.states import MissionState, SortieState

_EXAMPLE = {SortieState.SUCCEEDED: 1, SortieState.RUNNING: 1}
COMMIT = hashlib.sha1(b"", usedforsecurity=False).hexdigest()
TOKEN = f"{ids.encode(ids.SORTIE, ids.EXAMPLE)}.1.9mF2c7Qx"  # a lease token, for examples


class Counts(serializers.Serializer[Any]):
    """The number of sorties, in total and by state."""

    total = serializers.IntegerField(initial=2)

    def get_fields(self) -> dict[str, Any]:
        return {
            **super().get_fields(),
            **{state.value: serializers.IntegerField(initial=_EXAMPLE.get(state, 0)) for state in SortieState},
        }


class MissionResponse(serializers.Serializer[Any]):
    """A mission."""

    id = Id(ids.MISSION)
    name = serializers.CharField(initial="Repository audit")
    objective = serializers.CharField(allow_blank=True, initial="Report what to fix first.")
    state = serializers.ChoiceField(MissionState.choices, initial="running")
    reason = serializers.CharField(allow_blank=True, help_text="why the mission is paused, was cancelled or failed")
    origin = serializers.CharField(
        allow_blank=True, help_text="the mission and the checkpoint that it was forked from; empty if it was launched"
    )
    schedule = Id(ids.SCHEDULE, allow_null=True, help_text="the schedule that launched it, if any")
    sorties = Counts()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    elapsed_s = serializers.FloatField(initial=4.21)


class WorkspaceResponse(serializers.Serializer[Any]):
    """The repository that a mission changes, and the branch that receives the work of its sorties."""

    repository = serializers.CharField(initial="/srv/projects/shop")
    base = serializers.CharField(initial="main", help_text="the branch, tag or commit that it started from")
    base_commit = serializers.CharField(initial=COMMIT)
    branch = serializers.CharField(initial="fleet/login")
    conflicts = serializers.ChoiceField(["rework", "manual", "fail"])
    discarded_at = serializers.DateTimeField(allow_null=True, help_text="when its work was discarded")


class MissionDetailResponse(MissionResponse):
    """A mission with all of its fields."""

    workspace = WorkspaceResponse(allow_null=True, help_text="null if its plan names no repository")

    priority = serializers.IntegerField(initial=0, help_text="higher is more urgent")
    team = serializers.CharField(allow_null=True, initial="payments")
    created_by = serializers.CharField(allow_null=True, initial="ann")
    inputs = serializers.DictField(initial={"branch": "main"})
    template = serializers.CharField(
        allow_null=True,
        initial="audit",
        help_text="the template that it was launched from; null if the caller sent the plan",
    )


class ChangeResponse(serializers.Serializer[Any]):
    """An attempt's changes to the repository, as one commit."""

    attempt = serializers.IntegerField(initial=1)
    state = serializers.ChoiceField(Change.State.choices, initial="landed")
    commit = serializers.CharField(initial=COMMIT, help_text="the work of the attempt")
    landed = serializers.CharField(allow_blank=True, initial=COMMIT, help_text="the commit on the branch")
    files = serializers.IntegerField(initial=2)
    lines_added = serializers.IntegerField(initial=9)
    lines_removed = serializers.IntegerField(initial=1)
    no_change = serializers.CharField(allow_blank=True, help_text="why nothing had to be changed")


class SortieResponse(serializers.Serializer[Any]):
    """A sortie with its state, what it waits for, and its result."""

    id = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint", help_text="the name in the plan")
    agent_type = serializers.CharField(initial="testing")
    state = serializers.ChoiceField(SortieState.choices, initial="running")
    status = serializers.CharField(
        initial="running", help_text="the state in words: also `retry 2/3 in 4 s` and `tolerated`"
    )
    attempt = serializers.IntegerField(initial=1, help_text="the number of the last attempt; 0: none yet")
    tries = serializers.IntegerField(initial=0, help_text="failed attempts that count towards `max_attempts`")
    needs = serializers.ListField(child=serializers.CharField(initial="inventory"), help_text="keys of sorties")
    waits_on = serializers.ChoiceField(
        WaitsOn.choices, allow_blank=True, initial="", help_text="what ends the wait of a waiting sortie"
    )
    waits_for = serializers.CharField(allow_blank=True, help_text="why it has not started yet, as a sentence")
    ready_at = serializers.DateTimeField(
        allow_null=True, initial=MOMENT, help_text="when it last became ready or was queued"
    )
    started_at = serializers.DateTimeField(allow_null=True, initial=MOMENT)
    finished_at = serializers.DateTimeField(allow_null=True)
    wake_at = serializers.DateTimeField(
        allow_null=True, help_text="when it is retried, or the earliest time at which it may start"
    )
    changed_at = serializers.DateTimeField(allow_null=True, initial=MOMENT, help_text="when its state last changed")
    elapsed_s = serializers.FloatField(
        allow_null=True, initial=4.21, help_text="duration of the last attempt, so far or until its end"
    )
    progress = serializers.FloatField(allow_null=True, initial=0.4, help_text="last reported, from 0 to 1")
    note = serializers.CharField(allow_blank=True, initial="4 of 10 files")
    result = serializers.JSONField(allow_null=True, help_text="the result of a sortie that succeeded")
    error = serializers.CharField(allow_null=True)
    tolerated = serializers.BooleanField(help_text="whether it failed and the plan allows that (`allow_failure`)")
    change = ChangeResponse(allow_null=True, help_text="its latest change; null if it has changed nothing")


class SortieDetailResponse(SortieResponse):
    """A sortie with its mission."""

    mission = Id(ids.MISSION)


class ProgressResponse(serializers.Serializer[Any]):
    """The progress of a mission: the share of its sorties that have ended, plus the progress of running ones."""

    id = Id(ids.MISSION)
    state = serializers.ChoiceField(MissionState.choices, initial="running")
    fraction = serializers.FloatField(initial=0.7)
    percent = serializers.FloatField(initial=70.0)
    sorties = Counts()
    running = SortieResponse(many=True)


class Edge(serializers.Serializer[Any]):
    upstream = serializers.CharField(initial="inventory")
    sortie = serializers.CharField(initial="lint")


class GraphNodeResponse(serializers.Serializer[Any]):
    id = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint")
    agent_type = serializers.CharField(initial="testing")
    state = serializers.ChoiceField(SortieState.choices, initial="running")


class GraphResponse(serializers.Serializer[Any]):
    """The sorties of a mission and their needs."""

    nodes = GraphNodeResponse(many=True)
    edges = Edge(many=True)
    truncated = serializers.BooleanField(help_text="whether the mission has more sorties, or needs, than these")


class TimelineEntryResponse(serializers.Serializer[Any]):
    """One attempt."""

    sortie = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint")
    attempt = serializers.IntegerField(initial=1)
    state = serializers.ChoiceField(Attempt.State.choices, initial="running")
    agent = Id(ids.AGENT, allow_null=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_null=True)


class AttemptResponse(TimelineEntryResponse):
    """One attempt, with its result and resource use."""

    result = serializers.JSONField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)
    cpu_s = serializers.FloatField(allow_null=True, initial=1.52)
    max_rss_bytes = serializers.IntegerField(allow_null=True, initial=48_234_496)
    progress = serializers.FloatField(allow_null=True, initial=0.4)
    note = serializers.CharField(allow_blank=True, initial="4 of 10 files")
    resume = serializers.JSONField(
        allow_null=True, initial={"session": "ses_1"}, help_text="what it saved for the next attempt to continue from"
    )


class EventResponse(serializers.Serializer[Any]):
    """An event."""

    id = serializers.IntegerField(initial=20_415)
    at = serializers.DateTimeField()
    kind = serializers.CharField(initial="sortie.running")
    mission = Id(ids.MISSION, allow_null=True)
    subject = serializers.CharField(
        allow_null=True,
        initial=ids.encode(ids.SORTIE, ids.EXAMPLE),
        help_text="the id of the object that the event is about",
    )
    key = serializers.CharField(
        allow_null=True, initial="lint", help_text="the key of the sortie; null for other objects"
    )
    data = serializers.DictField(initial={"attempt": 1})  # type: ignore[assignment]


class ArtifactResponse(serializers.Serializer[Any]):
    """A file that a sortie produced."""

    id = Id(ids.ARTIFACT)
    sortie = serializers.CharField(initial="lint", help_text="the key of the sortie")
    path = serializers.CharField(initial="reports/lint.json")
    digest = serializers.CharField(initial=hashlib.sha256(b"").hexdigest(), help_text="SHA-256")
    size = serializers.IntegerField(initial=2_048, help_text="bytes")


class PieceResponse(serializers.Serializer[Any]):
    """A piece of an attempt's output."""

    id = serializers.IntegerField(initial=81)
    at = serializers.DateTimeField()
    stream = serializers.ChoiceField(["stdout", "stderr"])
    text = serializers.CharField(allow_blank=True, trim_whitespace=False, initial="4 of 10 files\n")


class LogResponse(serializers.Serializer[Any]):
    """The output of an attempt, in pieces. Repeat with `after` for more, until `ended` is true."""

    sortie = Id(ids.SORTIE)
    attempt = serializers.IntegerField(initial=1)
    pieces = PieceResponse(many=True)
    after = serializers.IntegerField(initial=81)
    ended = serializers.BooleanField()


class MissionPiece(PieceResponse):
    """A piece of output, with its sortie and attempt."""

    sortie = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint")
    attempt = serializers.IntegerField(initial=1)


class MissionLogResponse(serializers.Serializer[Any]):
    """The output of a mission's sorties, interleaved by time. Repeat with `after` for more, until `ended` is true."""

    mission = Id(ids.MISSION)
    pieces = MissionPiece(many=True)
    after = serializers.IntegerField(initial=81)
    ended = serializers.BooleanField()


class Input(serializers.Serializer[Any]):
    """An input of a template."""

    description = serializers.CharField(allow_blank=True)
    required = serializers.BooleanField()  # type: ignore[assignment]
    default = serializers.JSONField(allow_null=True)


class TemplateResponse(serializers.Serializer[Any]):
    """A template: a plan that operators offer to everybody."""

    name = serializers.CharField(initial="audit")
    description = serializers.CharField(allow_blank=True, initial="Reports what to fix first.")
    inputs = serializers.DictField(
        child=Input(), initial={"branch": {"description": "to audit", "required": False, "default": "main"}}
    )


class PlanWarning(serializers.Serializer[Any]):
    """A warning about a valid plan."""

    where = serializers.CharField(initial="sorties.lint.run")
    detail = serializers.CharField(initial="{{ inputs.branch }} becomes part of code that sh runs.")


class CheckResponse(serializers.Serializer[Any]):
    """The result of checking a valid plan."""

    mission = serializers.CharField(initial="Repository audit", help_text="the name of the mission")
    sorties = serializers.ListField(child=serializers.CharField(), initial=["inventory", "lint"], help_text="keys")
    runs_code = serializers.BooleanField(initial=True, help_text="whether launching it requires plan.execute")
    warnings = PlanWarning(many=True, help_text="such as places where input data becomes code")


class PlanSchemaResponse(serializers.Serializer[Any]):
    """The JSON Schema of plans."""

    schema = serializers.DictField(
        child=serializers.JSONField(),
        initial={"type": "object", "required": ["sorties"]},
        help_text="JSON Schema, 2020-12",
    )


class LeaseResponse(serializers.Serializer[Any]):
    """A claimed sortie, with the token that authenticates its attempt."""

    token = serializers.CharField(initial=TOKEN)
    sortie = Id(ids.SORTIE)
    mission = Id(ids.MISSION)
    key = serializers.CharField(initial="lint")
    attempt = serializers.IntegerField(initial=1)
    lease_s = serializers.FloatField(initial=30.0, help_text="the lease is lost unless it is renewed within this time")
    work = serializers.DictField(
        initial={"prompt": "Fix what the linter reports.", "needs": {"inventory": {"files": 10}}, "timeout_s": 600},
        help_text="the work, with the keys of the plan format",
    )


class ClaimResponse(serializers.Serializer[Any]):
    leases = LeaseResponse(many=True)


class HeartbeatResponse(serializers.Serializer[Any]):
    """The sorties whose leases are renewed, and those of them whose work has been cancelled."""

    renewed = serializers.ListField(child=Id(ids.SORTIE))
    cancelled = serializers.ListField(child=Id(ids.SORTIE), initial=[])


class StateResponse(serializers.Serializer[Any]):
    """The new state of the sortie."""

    sortie = Id(ids.SORTIE)
    state = serializers.ChoiceField(SortieState.choices, initial="succeeded")


class FailedResponse(StateResponse):
    """The new state of the sortie: `waiting` for the next attempt, or `failed`."""

    state = serializers.ChoiceField(SortieState.choices, initial="waiting")
