"""What the API answers with, for its OpenAPI document: the shapes of `fleet_mission … --json` (docs/commands.md)."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from missions.models import Attempt
from missions.states import MissionState, SortieState


class Counts(serializers.Serializer[Any]):
    """How many sorties there are, and in each state."""

    total = serializers.IntegerField()

    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), **{state.value: serializers.IntegerField() for state in SortieState}}


class MissionAnswer(serializers.Serializer[Any]):
    """A mission."""

    id = serializers.CharField()
    name = serializers.CharField()
    objective = serializers.CharField(allow_blank=True)
    state = serializers.ChoiceField(MissionState.choices)
    reason = serializers.CharField(allow_blank=True, help_text="why it is paused, was cancelled or failed")
    sorties = Counts()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    elapsed_s = serializers.FloatField()


class OneMissionAnswer(MissionAnswer):
    """A mission with what only its own page shows."""

    priority = serializers.IntegerField()
    team = serializers.CharField(allow_null=True)
    created_by = serializers.CharField(allow_null=True)
    inputs = serializers.DictField()


class SortieAnswer(serializers.Serializer[Any]):
    """A sortie: where it stands, and what it waits for or came to."""

    id = serializers.CharField()
    key = serializers.CharField()
    agent_type = serializers.CharField()
    state = serializers.ChoiceField(SortieState.choices)
    attempt = serializers.IntegerField()
    tries = serializers.IntegerField()
    needs = serializers.ListField(child=serializers.CharField())
    waits_for = serializers.CharField(allow_blank=True)
    ready_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    progress = serializers.FloatField(allow_null=True)
    note = serializers.CharField(allow_blank=True)
    result = serializers.JSONField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    tolerated = serializers.BooleanField()


class OneSortieAnswer(SortieAnswer):
    """A sortie with its mission."""

    mission = serializers.CharField()


class ProgressAnswer(serializers.Serializer[Any]):
    """How far a mission is: the share of its sorties that have ended, those under way counted by what they report."""

    id = serializers.CharField()
    state = serializers.ChoiceField(MissionState.choices)
    fraction = serializers.FloatField()
    percent = serializers.FloatField()
    sorties = Counts()
    running = SortieAnswer(many=True)


class Edge(serializers.Serializer[Any]):
    upstream = serializers.CharField()
    sortie = serializers.CharField()


class Node(serializers.Serializer[Any]):
    id = serializers.CharField()
    key = serializers.CharField()
    agent_type = serializers.CharField()
    state = serializers.ChoiceField(SortieState.choices)


class GraphAnswer(serializers.Serializer[Any]):
    """The sorties of a mission and what needs what."""

    nodes = Node(many=True)
    edges = Edge(many=True)
    truncated = serializers.BooleanField(help_text="whether the mission has more sorties than are shown")


class Bar(serializers.Serializer[Any]):
    """One attempt."""

    sortie = serializers.CharField()
    key = serializers.CharField()
    attempt = serializers.IntegerField()
    state = serializers.ChoiceField(Attempt.State.choices)
    agent = serializers.CharField(allow_null=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_null=True)


class AttemptAnswer(Bar):
    """One attempt with what it used."""

    result = serializers.JSONField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)
    cpu_s = serializers.FloatField(allow_null=True)
    max_rss_bytes = serializers.IntegerField(allow_null=True)
    progress = serializers.FloatField(allow_null=True)
    note = serializers.CharField(allow_blank=True)


class EventAnswer(serializers.Serializer[Any]):
    """Something that happened."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    mission = serializers.CharField(allow_null=True)
    subject = serializers.CharField(allow_null=True)
    data = serializers.DictField()  # type: ignore[assignment]


class ArtifactAnswer(serializers.Serializer[Any]):
    """A file that a sortie gave out."""

    id = serializers.CharField()
    sortie = serializers.CharField()
    path = serializers.CharField()
    digest = serializers.CharField()
    size = serializers.IntegerField()


class PieceAnswer(serializers.Serializer[Any]):
    """A piece of what an attempt printed."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    stream = serializers.ChoiceField(["stdout", "stderr"])
    text = serializers.CharField(allow_blank=True, trim_whitespace=False)


class LogAnswer(serializers.Serializer[Any]):
    """What an attempt printed, in pieces. Ask again with `after` for what comes then; `ended`: nothing will."""

    sortie = serializers.CharField()
    attempt = serializers.IntegerField()
    pieces = PieceAnswer(many=True)
    after = serializers.IntegerField()
    ended = serializers.BooleanField()


class TemplateAnswer(serializers.Serializer[Any]):
    """A plan that operators offer."""

    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    inputs = serializers.DictField()


class Checked(serializers.Serializer[Any]):
    """What came of a check of a plan that is good."""

    mission = serializers.CharField()
    sorties = serializers.ListField(child=serializers.CharField())
    executes = serializers.BooleanField(help_text="whether launching it needs plan.execute")


class LeaseAnswer(serializers.Serializer[Any]):
    """A sortie that is to be flown now, and the token that proves who may."""

    token = serializers.CharField()
    sortie = serializers.CharField()
    mission = serializers.CharField()
    key = serializers.CharField()
    attempt = serializers.IntegerField()
    lease_s = serializers.FloatField()
    work = serializers.DictField()


class ClaimAnswer(serializers.Serializer[Any]):
    leases = LeaseAnswer(many=True)


class RenewedAnswer(serializers.Serializer[Any]):
    """Which leases hold, and which attempts somebody wants stopped."""

    held = serializers.ListField(child=serializers.CharField())
    cancelled = serializers.ListField(child=serializers.CharField())


class StateAnswer(serializers.Serializer[Any]):
    """What became of the sortie."""

    sortie = serializers.CharField()
    state = serializers.ChoiceField(SortieState.choices)
