"""Routes of checkpoints. Fixed paths precede those with an id."""

from __future__ import annotations

from django.urls import path

from checkpoints.api import checkpoints

_CHECKPOINTS = "api/v1/checkpoints"
_CHECKPOINT = f"{_CHECKPOINTS}/<str:ref>"

urlpatterns = [
    path(_CHECKPOINTS, checkpoints.Checkpoints.as_view(), name="api-checkpoints"),
    path(f"{_CHECKPOINTS}/latest/<str:mission>", checkpoints.LatestCheckpoint.as_view()),
    path(_CHECKPOINT, checkpoints.CheckpointDetail.as_view(), name="api-checkpoint"),
    path(f"{_CHECKPOINT}/plan", checkpoints.RecoveryPlanView.as_view()),
    path(f"{_CHECKPOINT}/diff", checkpoints.CheckpointDiffView.as_view()),
    path(f"{_CHECKPOINT}/verify", checkpoints.Verify.as_view()),
    path(f"{_CHECKPOINT}/restore", checkpoints.RestoreCheckpoint.as_view()),
    path(f"{_CHECKPOINT}/resume", checkpoints.ResumeCheckpoint.as_view()),
    path(f"{_CHECKPOINT}/fork", checkpoints.ForkCheckpoint.as_view()),
]
