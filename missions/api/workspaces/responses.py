"""Response serializers of diffs, conflicts and merges, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from fleet import ids
from fleet.api.openapi.examples import MOMENT
from fleet.api.serializers import Id
from missions.api.responses import COMMIT, ChangeResponse
from missions.models import Conflict

_PATCH = "--- a/app.py\n+++ b/app.py\n@@ -1 +1 @@\n-two\n+three\n"


class FileDiffResponse(serializers.Serializer[Any]):
    """A changed file, with the number of lines added and removed; both are null if it is binary."""

    path = serializers.CharField(initial="app.py")
    added = serializers.IntegerField(allow_null=True, initial=1)
    removed = serializers.IntegerField(allow_null=True, initial=1)


class DiffResponse(serializers.Serializer[Any]):
    """The difference between two commits."""

    base = serializers.CharField(allow_blank=True, initial=COMMIT)
    commit = serializers.CharField(allow_blank=True, initial=COMMIT, help_text="empty while the work is not committed")
    files = FileDiffResponse(many=True)
    patch = serializers.CharField(allow_blank=True, trim_whitespace=False, initial=_PATCH)
    truncated = serializers.BooleanField(help_text="whether the patch or the list of files is incomplete")


class SortieDiffResponse(DiffResponse):
    """A sortie's changes to the repository."""

    sortie = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint")
    attempt = serializers.IntegerField(initial=1)
    state = serializers.CharField(
        initial="landed",
        help_text="that of its change; `uncommitted` while an attempt is running; `none` without changes",
    )


class MissionDiffResponse(DiffResponse):
    """The changes that have landed on a mission's branch, and those that have not, by sortie."""

    mission = Id(ids.MISSION)
    branch = serializers.CharField(initial="fleet/login")
    unmerged = SortieDiffResponse(many=True)


class ConflictResponse(serializers.Serializer[Any]):
    """A conflict between the changes of sorties, and how it was resolved."""

    id = Id(ids.CONFLICT)
    sortie = Id(ids.SORTIE)
    key = serializers.CharField(initial="lint")
    attempt = serializers.IntegerField(allow_null=True, initial=1)
    kind = serializers.ChoiceField(Conflict.Kind.choices, initial="merge")
    others = serializers.ListField(child=serializers.CharField(), initial=["api"], help_text="keys of sorties")
    files = serializers.ListField(child=serializers.CharField(), initial=["app.py"])
    onto = serializers.CharField(allow_blank=True, initial=COMMIT, help_text="the tip of the branch at that time")
    text = serializers.CharField(allow_blank=True, help_text="git's messages, or the end of the output of `verify`")
    outcome = serializers.ChoiceField(
        ["open", *(choice for choice, _ in Conflict.Outcome.choices if choice)], initial="manual"
    )
    by = serializers.CharField(allow_blank=True, help_text="who decided")
    created_at = serializers.DateTimeField(initial=MOMENT)
    closed_at = serializers.DateTimeField(allow_null=True)


class MergedResponse(serializers.Serializer[Any]):
    """A branch of the repository that contains the work of a mission."""

    mission = Id(ids.MISSION)
    repository = serializers.CharField(initial="/srv/projects/shop")
    branch = serializers.CharField(initial="next")
    before = serializers.CharField(allow_blank=True, help_text="its previous tip; empty if it is new")
    commit = serializers.CharField(initial=COMMIT, help_text="its tip now")
    tip = serializers.CharField(initial=COMMIT, help_text="the tip of the mission's branch, which it contains")
    outcome = serializers.ChoiceField(["created", "fast-forwarded", "merged", "unchanged"])


class UnmergedCommit(serializers.Serializer[Any]):
    commit = serializers.CharField(initial=COMMIT)
    sortie = serializers.CharField(allow_blank=True, initial="lint")
    subject = serializers.CharField(initial="lint: Login")


class UnmergedChange(ChangeResponse):
    sortie = serializers.CharField(initial="lint")


class UnmergedResponse(serializers.Serializer[Any]):
    """Work that no branch of the repository contains: commits of the mission's branch, and changes that never landed."""

    branch = serializers.CharField(allow_blank=True, initial="fleet/login")
    commits = UnmergedCommit(many=True)
    changes = UnmergedChange(many=True)


class DiscardedResponse(serializers.Serializer[Any]):
    """The unmerged work, and whether it was discarded."""

    mission = Id(ids.MISSION)
    discarded = serializers.BooleanField()
    unmerged = UnmergedResponse()
