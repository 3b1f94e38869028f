"""Bare Celery, which the fleet is compared with: no results, no durability, dependencies counted by hand in Redis.

Only the task that ends a workload reports its end, because a counter in each task would slow Celery down.
"""

from __future__ import annotations

import os

import redis
from celery import Celery

app = Celery("bare", broker=os.environ.get("BARE_REDIS", ""))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=16, task_default_queue="bare")
store = redis.Redis.from_url(os.environ["BARE_REDIS"]) if os.environ.get("BARE_REDIS") else None


@app.task(name="bare.noop")
def noop(last: bool = False) -> None:
    if last:
        _ended()


@app.task(name="bare.fan")
def fan(mission: int, stage: int) -> None:
    """One task, fifty after it, one after those; the join is counted in Redis."""
    assert store is not None
    if stage == 0:
        for _ in range(50):
            fan.delay(mission, 1)
    elif stage == 2:
        _ended()
    elif store.incr(f"join:{mission}") == 50:
        fan.delay(mission, 2)


@app.task(name="bare.chain")
def chain(remaining: int) -> None:
    if remaining > 1:
        chain.delay(remaining - 1)
    else:
        _ended()


def _ended() -> None:
    assert store is not None
    store.incr("ended")
