"""What the API answers with, for its OpenAPI document: the shapes of `fleet_mission … --json` (docs/commands.md)."""

from __future__ import annotations

import hashlib
from typing import Any

from rest_framework import serializers

from fleet import ids
from fleet.api.openapi.examples import MOMENT
from fleet.api.serializers import Id
from missions.models import Attempt
from missions.states import MissionState, SortieState

_EXAMPLE = {SortieState.SUCCEEDED: 1, SortieState.RUNNING: 1}
TOKEN = f"{ids.encode(ids.SORTIE, ids.EXAMPLE)}.1.9mF2c7Qx"  # a lease token, in the document's examples


class Counts(serializers.Serializer[Any]):
    """How many sorties there are, and in each state."""

    total = serializers.IntegerField(initial=2)

    def get_fields(self) -> dict[str, Any]:
        return {
            **super().get_fields(),
            **{state.value: serializers.IntegerField(initial=_EXAMPLE.get(state, 0)) for state in SortieState},
        }


class MissionAnswer(serializers.Serializer[Any]):
    """A mission."""

    id = Id(ids.MISSION)
    name = serializers.CharField(initial="Repository audit")
    objective = serializers.CharField(allow_blank=True, initial="Say what to fix first.")
    state = serializers.ChoiceField(MissionState.choices, initial="running")
    reason = serializers.CharField(allow_blank=True, help_text="why it is paused, was cancelled or failed")
    sorties = Counts()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    elapsed_s = serializers.FloatField(initial=4.21)


class OneMissionAnswer(MissionAnswer):
    """A mission with what only its own page shows."""

    priority = serializers.IntegerField(initial=0, help_text="the larger, the more urgent")
    team = serializers.CharField(allow_null=True, initial="payments")
    created_by = serializers.CharField(allow_null=True, initial="ann")
    inputs = serializers.DictField(initial={"branch": "main"})
    template = serializers.CharField(
        allow_null=True,
        initial="audit",
        help_text="which of the operators' plans it is; null: a plan of somebody's own",
    )


class SortieAnswer(serializers.Serializer[Any]):
    """A sortie: where it stands, and what it waits for or came to."""

    id = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint", help_text="its name in the plan")
    agent_type = serializers.CharField(initial="testing")
    state = serializers.ChoiceField(SortieState.choices, initial="running")
    status = serializers.CharField(
        initial="running", help_text="the state in words: also `retry 2/3 in 4 s` and `tolerated`"
    )
    attempt = serializers.IntegerField(initial=1, help_text="0: none yet")
    tries = serializers.IntegerField(initial=0, help_text="attempts that failed by themselves")
    needs = serializers.ListField(child=serializers.CharField(initial="inventory"), help_text="keys")
    waits_for = serializers.CharField(allow_blank=True, help_text="why it is not flown yet, in words")
    ready_at = serializers.DateTimeField(
        allow_null=True, initial=MOMENT, help_text="since when it waits: it became ready, or was queued (again)"
    )
    started_at = serializers.DateTimeField(allow_null=True, initial=MOMENT)
    finished_at = serializers.DateTimeField(allow_null=True)
    wake_at = serializers.DateTimeField(allow_null=True, help_text="when it is tried again, or may start")
    changed_at = serializers.DateTimeField(allow_null=True, initial=MOMENT, help_text="when its state last changed")
    elapsed_s = serializers.FloatField(
        allow_null=True, initial=4.21, help_text="of its last attempt, until now or its end"
    )
    progress = serializers.FloatField(allow_null=True, initial=0.4, help_text="0 to 1, as it was last reported")
    note = serializers.CharField(allow_blank=True, initial="4 of 10 files")
    result = serializers.JSONField(allow_null=True, help_text="what it came to, once it succeeded")
    error = serializers.CharField(allow_null=True)
    tolerated = serializers.BooleanField(help_text="it failed, and the plan allows that")


class OneSortieAnswer(SortieAnswer):
    """A sortie with its mission."""

    mission = Id(ids.MISSION)


class ProgressAnswer(serializers.Serializer[Any]):
    """How far a mission is: the share of its sorties that have ended, those under way counted by what they report."""

    id = Id(ids.MISSION)
    state = serializers.ChoiceField(MissionState.choices, initial="running")
    fraction = serializers.FloatField(initial=0.7)
    percent = serializers.FloatField(initial=70.0)
    sorties = Counts()
    running = SortieAnswer(many=True)


class Edge(serializers.Serializer[Any]):
    upstream = serializers.CharField(initial="inventory")
    sortie = serializers.CharField(initial="lint")


class Node(serializers.Serializer[Any]):
    id = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint")
    agent_type = serializers.CharField(initial="testing")
    state = serializers.ChoiceField(SortieState.choices, initial="running")


class GraphAnswer(serializers.Serializer[Any]):
    """The sorties of a mission and what needs what."""

    nodes = Node(many=True)
    edges = Edge(many=True)
    truncated = serializers.BooleanField(help_text="whether the mission has more sorties than are shown")


class Bar(serializers.Serializer[Any]):
    """One attempt."""

    sortie = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint")
    attempt = serializers.IntegerField(initial=1)
    state = serializers.ChoiceField(Attempt.State.choices, initial="running")
    agent = Id(ids.AGENT, allow_null=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_null=True)


class AttemptAnswer(Bar):
    """One attempt with what it used."""

    result = serializers.JSONField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)
    cpu_s = serializers.FloatField(allow_null=True, initial=1.52)
    max_rss_bytes = serializers.IntegerField(allow_null=True, initial=48_234_496)
    progress = serializers.FloatField(allow_null=True, initial=0.4)
    note = serializers.CharField(allow_blank=True, initial="4 of 10 files")


class EventAnswer(serializers.Serializer[Any]):
    """Something that happened."""

    id = serializers.IntegerField(initial=20_415)
    at = serializers.DateTimeField()
    kind = serializers.CharField(initial="sortie.running")
    mission = Id(ids.MISSION, allow_null=True)
    subject = serializers.CharField(
        allow_null=True, initial=ids.encode(ids.SORTIE, ids.EXAMPLE), help_text="the id of what it happened to"
    )
    key = serializers.CharField(allow_null=True, initial="lint", help_text="of the sortie; null of what is none")
    data = serializers.DictField(initial={"attempt": 1})  # type: ignore[assignment]


class ArtifactAnswer(serializers.Serializer[Any]):
    """A file that a sortie gave out."""

    id = Id(ids.ARTIFACT)
    sortie = serializers.CharField(initial="lint", help_text="its key")
    path = serializers.CharField(initial="reports/lint.json")
    digest = serializers.CharField(initial=hashlib.sha256(b"").hexdigest(), help_text="SHA-256")
    size = serializers.IntegerField(initial=2_048, help_text="bytes")


class PieceAnswer(serializers.Serializer[Any]):
    """A piece of what an attempt printed."""

    id = serializers.IntegerField(initial=81)
    at = serializers.DateTimeField()
    stream = serializers.ChoiceField(["stdout", "stderr"])
    text = serializers.CharField(allow_blank=True, trim_whitespace=False, initial="4 of 10 files\n")


class LogAnswer(serializers.Serializer[Any]):
    """What an attempt printed, in pieces. Ask again with `after` for what comes then; `ended`: nothing will."""

    sortie = Id(ids.SORTIE)
    attempt = serializers.IntegerField(initial=1)
    pieces = PieceAnswer(many=True)
    after = serializers.IntegerField(initial=81)
    ended = serializers.BooleanField()


class MissionPiece(PieceAnswer):
    """A piece of output, with its sortie and attempt."""

    sortie = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint")
    attempt = serializers.IntegerField(initial=1)


class MissionLogAnswer(serializers.Serializer[Any]):
    """What a mission's sorties printed, interleaved by time. Ask again with `after` for more; `ended`: there is no more."""

    mission = Id(ids.MISSION)
    pieces = MissionPiece(many=True)
    after = serializers.IntegerField(initial=81)
    ended = serializers.BooleanField()


class Input(serializers.Serializer[Any]):
    """What a template is told."""

    description = serializers.CharField(allow_blank=True)
    required = serializers.BooleanField()  # type: ignore[assignment]
    default = serializers.JSONField(allow_null=True)


class TemplateAnswer(serializers.Serializer[Any]):
    """A plan that operators offer."""

    name = serializers.CharField(initial="audit")
    description = serializers.CharField(allow_blank=True, initial="What to fix first.")
    inputs = serializers.DictField(
        child=Input(), initial={"branch": {"description": "to look at", "required": False, "default": "main"}}
    )


class PlanWarning(serializers.Serializer[Any]):
    """Something of a plan that is good, and that may not be what was meant."""

    where = serializers.CharField(initial="sorties.lint.run")
    detail = serializers.CharField(initial="{{ inputs.branch }} becomes part of code that sh runs.")


class Checked(serializers.Serializer[Any]):
    """What came of a check of a plan that is good."""

    mission = serializers.CharField(initial="Repository audit", help_text="its name")
    sorties = serializers.ListField(child=serializers.CharField(), initial=["inventory", "lint"], help_text="keys")
    executes = serializers.BooleanField(initial=True, help_text="whether launching it needs plan.execute")
    warnings = PlanWarning(many=True, help_text="what may let those who give it data run code")


class PlanSchemaAnswer(serializers.Serializer[Any]):
    """The form of plans."""

    schema = serializers.DictField(
        child=serializers.JSONField(),
        initial={"type": "object", "required": ["sorties"]},
        help_text="JSON Schema, 2020-12",
    )


class LeaseAnswer(serializers.Serializer[Any]):
    """A sortie that is to be flown now, and the token that proves who may."""

    token = serializers.CharField(initial=TOKEN)
    sortie = Id(ids.SORTIE)
    mission = Id(ids.MISSION)
    key = serializers.CharField(initial="lint")
    attempt = serializers.IntegerField(initial=1)
    lease_s = serializers.FloatField(initial=30.0, help_text="it is lost if nothing is heard for so long")
    work = serializers.DictField(
        initial={"prompt": "Mend what the linter says.", "needs": {"inventory": {"files": 10}}, "timeout_s": 600},
        help_text="what is to be done, by the names that plans have for it",
    )


class ClaimAnswer(serializers.Serializer[Any]):
    leases = LeaseAnswer(many=True)


class RenewedAnswer(serializers.Serializer[Any]):
    """Which leases hold, and which attempts somebody wants stopped."""

    held = serializers.ListField(child=Id(ids.SORTIE))
    cancelled = serializers.ListField(child=Id(ids.SORTIE), initial=[])


class StateAnswer(serializers.Serializer[Any]):
    """What became of the sortie."""

    sortie = Id(ids.SORTIE)
    state = serializers.ChoiceField(SortieState.choices, initial="succeeded")


class FailedAnswer(StateAnswer):
    """What became of the sortie: it waits for its next try, or has failed."""

    state = serializers.ChoiceField(SortieState.choices, initial="waiting")
