"""Response serializers for the OpenAPI document. They match `fleet_checkpoint … --json` (docs/commands.md)."""

from __future__ import annotations

import hashlib
from typing import Any

from rest_framework import serializers

from checkpoints.models import Checkpoint
from checkpoints.queries import bounds
from checkpoints.recovery.risks import Level
from fleet import ids
from fleet.api.serializers import Id
from missions.api.responses import MissionResponse
from missions.states import MissionState

DIGEST = hashlib.sha256(b"").hexdigest()  # for examples
PLAN_DIGEST = DIGEST[:16]


def _keys(example: str | None, description: str) -> serializers.ListField:
    """A list of the first MAX_KEYS keys of sorties."""
    return serializers.ListField(
        child=serializers.CharField(), initial=[example] if example else [], help_text=f"sorties that {description}"
    )


class CheckpointResponse(serializers.Serializer[Any]):
    """A checkpoint: one or more missions as they were at one moment."""

    id = Id(ids.CHECKPOINT)
    missions = serializers.ListField(child=Id(ids.MISSION))
    name = serializers.CharField(allow_blank=True, initial="before-merge")
    note = serializers.CharField(allow_blank=True)
    trigger = serializers.ChoiceField(Checkpoint.Trigger.choices, initial="request", help_text="why it was captured")
    keep = serializers.BooleanField(help_text="whether it is exempt from retention")
    sorties = serializers.IntegerField(initial=2)
    bytes = serializers.IntegerField(initial=5_120, help_text="size of all its files, compressed")
    new_bytes = serializers.IntegerField(initial=812, help_text="size of the files that no earlier checkpoint has")
    parent = Id(ids.CHECKPOINT, allow_null=True, help_text="the mission's previous checkpoint, for information only")  # type: ignore[assignment]
    digest = serializers.CharField(
        initial=DIGEST, help_text="SHA-256 of the manifest, which has the digests of all other files"
    )
    created_at = serializers.DateTimeField()


class SavedMissionResponse(serializers.Serializer[Any]):
    """A mission in a checkpoint."""

    id = Id(ids.MISSION)
    name = serializers.CharField(initial="Repository audit")
    state = serializers.ChoiceField(MissionState.choices, initial="running")
    sorties = serializers.DictField(
        child=serializers.IntegerField(), initial={"succeeded": 1, "running": 1}, help_text="number of sorties by state"
    )
    digest = serializers.CharField(initial=DIGEST, help_text="equal states have equal digests, in every fleet")
    context = serializers.DictField(  # type: ignore[assignment]
        child=serializers.JSONField(),
        allow_null=True,
        help_text="the recovery context: `summary`, `next_steps`, `blockers` and so on. Text that "
        "agents wrote is under `reported`",
    )


class CheckpointDetailResponse(CheckpointResponse):
    """A checkpoint with its contents."""

    contents = SavedMissionResponse(many=True, help_text=f"the first {bounds.MAX_MISSIONS} missions")
    truncated = serializers.BooleanField(help_text="whether the checkpoint has more missions than `contents`")
    fleet = serializers.DictField(
        child=serializers.JSONField(),
        allow_null=True,
        help_text="agent types and concurrency limits, if the whole fleet was captured; only for admins",
    )


class RiskResponse(serializers.Serializer[Any]):
    kind = serializers.CharField(initial="lost_work")
    level = serializers.ChoiceField(
        [level.value for level in Level],
        initial="medium",
        help_text="`high`: a restore needs `force`; `blocking`: it is impossible",
    )
    message = serializers.CharField(initial="Finished work would be replaced: lint.")
    mitigation = serializers.CharField(initial="Restore the checkpoint that is captured first to return to it.")


class PlanCounts(serializers.Serializer[Any]):
    """The number of sorties in each list."""

    keep = serializers.IntegerField(initial=1)
    put_back = serializers.IntegerField(initial=0)
    run = serializers.IntegerField(initial=1)
    resume = serializers.IntegerField(initial=0)
    create = serializers.IntegerField(initial=0)  # type: ignore[assignment]
    drop = serializers.IntegerField(initial=0)
    lost = serializers.IntegerField(initial=1)
    stopped = serializers.IntegerField(initial=0)
    uncommitted = serializers.IntegerField(initial=0)


class RecoveryPlanResponse(serializers.Serializer[Any]):
    """What a restore would do now. Each list has the first 1,000 keys; `counts` has the length of each."""

    digest = serializers.CharField(
        initial=PLAN_DIGEST, help_text="send it as `plan` of a restore, which then does exactly this"
    )
    checkpoint = Id(ids.CHECKPOINT)
    mission = Id(ids.MISSION)
    state = serializers.ChoiceField(
        MissionState.choices, initial="paused", help_text="state of the mission after the restore"
    )
    counts = PlanCounts()
    keep = _keys("inventory", "have ended and stay as they are")
    put_back = _keys(None, "get their outcome back from the checkpoint")
    run = _keys("lint", "run from their start")
    resume = _keys(None, "run from where they stopped")
    create = _keys(None, "have no row now")  # type: ignore[assignment]
    drop = _keys(None, "were added since and are removed")
    lost = _keys("lint", "have succeeded since, and would run again or be removed")
    stopped = _keys(None, "are running and are stopped")
    uncommitted = _keys(None, "get back the uncommitted work that they had")
    agents_to_spawn = serializers.ListField(
        child=serializers.CharField(), initial=[], help_text="agent types that have work and no agent"
    )
    branch = serializers.CharField(
        initial="", allow_blank=True, help_text="of the mission's workspace; empty without a workspace"
    )
    tip = serializers.CharField(initial="", allow_blank=True, help_text="the commit that the branch is moved to")
    commits_removed = serializers.IntegerField(initial=0, help_text="commits that the branch has now and would lose")
    risks = RiskResponse(many=True)
    bytes = serializers.IntegerField(initial=20_480, help_text="size of the files that a restore reads")
    format = serializers.IntegerField(initial=1, help_text="format of the checkpoint's files")
    age_s = serializers.FloatField(initial=61.5)


class SortieChange(serializers.Serializer[Any]):
    """A sortie that differs."""

    key = serializers.CharField(initial="lint")
    parts = serializers.DictField(
        child=serializers.ListField(child=serializers.JSONField()),
        initial={"state": ["due", "succeeded"]},
        help_text="each part that differs, with its value before and after",
    )
    omitted = serializers.ListField(
        child=serializers.CharField(), initial=["result"], help_text="parts that differ and have long values"
    )


class DifferenceCounts(serializers.Serializer[Any]):
    """The number of sorties in each list."""

    added = serializers.IntegerField(initial=0)
    removed = serializers.IntegerField(initial=0)
    changed = serializers.IntegerField(initial=1)


class DifferenceResponse(serializers.Serializer[Any]):
    """What has changed. Has at most 1,000 added keys, 1,000 removed keys and 200 changes; `counts` has the totals."""

    mission = serializers.DictField(
        child=serializers.ListField(child=serializers.JSONField()),
        initial={"priority": [0, 10]},
        help_text="parts of the mission itself that differ, each with its value before and after",
    )
    omitted = serializers.ListField(
        child=serializers.CharField(),
        initial=[],
        help_text="parts of the mission that differ and are not shown, such as the plan",
    )
    added = _keys(None, "only the later state has")
    removed = _keys(None, "only the earlier state has")
    changed = SortieChange(many=True)
    counts = DifferenceCounts()


class RestoredResponse(serializers.Serializer[Any]):
    """The mission after a restore."""

    mission = MissionResponse()
    checkpoint = Id(ids.CHECKPOINT)
    safety = Id(
        ids.CHECKPOINT,
        allow_null=True,
        help_text="the checkpoint with the replaced state; null if the mission had no rows",
    )
    replaced = serializers.CharField(
        initial="",
        allow_blank=True,
        help_text="the ref in the fleet's mirror that keeps what the branch had before; empty without a workspace",
    )


class ForkedResponse(serializers.Serializer[Any]):
    """The new mission. Each list has the first 1,000 keys; `counts` has the length of each."""

    mission = MissionResponse()
    rerun = _keys("lint", "run again")
    dropped = _keys(None, "are left out, because sorties that run again had added them")
    stale = _keys(None, "keep results that used a changed input")
    counts = serializers.DictField(child=serializers.IntegerField(), initial={"rerun": 1, "dropped": 0, "stale": 0})


class DamageResponse(serializers.Serializer[Any]):
    message = serializers.CharField(initial="The blob e3b0c44298fc… is missing.")
    shared_by = serializers.ListField(
        child=Id(ids.CHECKPOINT), help_text="the checkpoints with this damage that the caller may see"
    )


class VerifiedResponse(serializers.Serializer[Any]):
    """Whether every byte of a checkpoint is intact."""

    checkpoint = Id(ids.CHECKPOINT)
    intact = serializers.BooleanField(initial=False)
    damages = DamageResponse(many=True)
