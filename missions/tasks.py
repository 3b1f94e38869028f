"""The Celery task that a hint starts."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from fleet.celery import app
from missions import hints
from missions.engine.process import worker
from missions.engine.process.task_summary import TaskSummary

worker.install(app)


class SortiesFailed(Exception):
    """Only for Flower: a sortie of this task failed. The outcome is already in the rows, and Celery retries nothing."""


@shared_task(name=hints.TASK_NAME, ignore_result=True, throws=(SortiesFailed,))
def handle_hint(**kwargs: Any) -> str:
    """Handle the hint "type X has work": work in one slot until nothing is left to claim.

    Returns a summary for Flower: "ran 5: 4 succeeded, 1 failed (srt_…)". Another agent may have claimed the sortie
    that the hint was sent for. The task fails if any of its sorties failed for good, so that Flower does not count
    failures as successes. Failures that are retried or tolerated (`allow_failure`) do not count.
    """
    summary = TaskSummary()
    worker.engine().run_slot(summary=summary)
    if summary.failed:
        raise SortiesFailed(str(summary))
    return str(summary)
