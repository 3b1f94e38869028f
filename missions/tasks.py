"""The Celery task: a hint has come."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from fleet.celery import app
from missions import hints
from missions.engine import worker
from missions.engine.task_summary import TaskSummary

worker.install(app)


class SortiesFailed(Exception):
    """For Flower alone: a sortie that this task flew has failed. The rows have it already; nothing is retried."""


@shared_task(name=hints.FLY, ignore_result=True, throws=(SortiesFailed,))
def fly(**kwargs: Any) -> str:
    """ "Type X has work": work in one slot until nothing is left to claim.

    What became of it, for whoever looks at it in Flower: "flew 5: 4 succeeded, 1 failed (srt_…)". The sortie that it was
    sent for may be another's. The task fails where one of its sorties did, so that Flower counts no failure as a success.
    """
    flown = TaskSummary()
    worker.engine().fly(flown=flown)
    if flown.failed:
        raise SortiesFailed(str(flown))
    return str(flown)
