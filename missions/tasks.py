"""The Celery task: a hint has come."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from fleet import ids
from fleet.celery import app
from missions import hints, worker
from missions.settling import Settlement

worker.install(app)


@shared_task(name=hints.FLY, ignore_result=True)
def fly(**kwargs: Any) -> dict[str, Any]:
    """ "Type X has work": work in one slot until nothing is left to claim. What became of it, for whoever looks at it in
    Flower: how many it flew, and the verdicts on the first of them. The sortie that it was sent for may be another's."""
    told: list[Settlement] = []
    flown = worker.engine().fly(told=told)
    return {"flown": flown, "sorties": [f"{ids.encode(ids.SORTIE, one.id)} {one.state}" for one in told]}
