"""The Celery task: a hint has come."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from fleet.celery import app
from missions import hints, worker

worker.install(app)


@shared_task(name=hints.FLY, ignore_result=True)
def fly(**kwargs: Any) -> dict[str, int]:
    """ "Type X has work": work in one slot until nothing is left to claim."""
    return {"flown": worker.engine().fly()}
