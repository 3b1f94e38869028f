"""Routes of checkpoints. Fixed paths precede those with an id."""

from __future__ import annotations

from django.urls import path

from checkpoints.api import checkpoints

_ALL = "api/v1/checkpoints"
_ONE = f"{_ALL}/<str:ref>"

urlpatterns = [
    path(_ALL, checkpoints.Checkpoints.as_view(), name="api-checkpoints"),
    path(f"{_ALL}/latest/<str:mission>", checkpoints.LatestCheckpoint.as_view()),
    path(_ONE, checkpoints.CheckpointDetail.as_view(), name="api-checkpoint"),
    path(f"{_ONE}/plan", checkpoints.Plan.as_view()),
    path(f"{_ONE}/diff", checkpoints.Diff.as_view()),
    path(f"{_ONE}/verify", checkpoints.Verify.as_view()),
    path(f"{_ONE}/restore", checkpoints.RestoreCheckpoint.as_view()),
    path(f"{_ONE}/resume", checkpoints.ResumeCheckpoint.as_view()),
    path(f"{_ONE}/fork", checkpoints.ForkCheckpoint.as_view()),
]
