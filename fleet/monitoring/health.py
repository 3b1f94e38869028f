"""`/healthz`: this process is there. `/readyz`: what it stands on answers too. Both are open to anybody.

The apps above add what they know is wrong (`health.py` in each, loaded when Django is ready).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypedDict

import psycopg
import redis
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from fleet import invocation

log = logging.getLogger("fleet.health")

TIMEOUT_S = 3

Check = Callable[[], str]  # one sentence on what is wrong, or nothing; it may ask the database
_more: dict[str, tuple[str, Check]] = {}


class Answer(TypedDict):
    ok: bool
    why: str  # empty where all is well


def register(name: str, *, fault: str, check: Check) -> None:
    """One more check; `fault` is told where it raises."""
    _more[name] = fault, check


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """`{ready, checks: {database, migrations, redis, queue, …: {ok, why}}}`, with status 503 where one is not ok."""
    database = _answer("Postgres does not answer.", _database)
    asked = {"migrations": ("Migrations cannot be read.", _migrations), **_more}
    unknown = Answer(ok=False, why="Unknown while Postgres does not answer.")
    checks = {
        "database": database,
        "redis": _answer("Redis does not answer. Missions go on without it, with more delay.", _redis),
        **{name: _answer(*check) if database["ok"] else unknown for name, check in asked.items()},
    }
    ready = all(check["ok"] for check in checks.values())
    return JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)


def _answer(fault: str, check: Check) -> Answer:
    """What the check says is wrong; `fault` where it raises. The exception names hosts and users: it is for the log."""
    try:
        why = check()
    except (Error, psycopg.Error, redis.RedisError, OSError):
        log.warning("%s", fault, exc_info=True)
        why = fault
    return Answer(ok=not why, why=why)


def _database() -> str:
    """By a connection of its own: one that was made long ago would wait for a Postgres that hangs, for as long as TCP does."""
    with psycopg.connect(**{**connection.get_connection_params(), "connect_timeout": TIMEOUT_S}) as fresh:
        fresh.execute("SELECT 1")
    return ""


def _migrations() -> str:
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    return f"{missing} migrations are not applied. Apply them: {invocation.command('migrate')}" if missing else ""


def _redis() -> str:
    with redis.Redis.from_url(
        settings.FLEET_ENDPOINTS.redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
    ) as client:
        client.ping()
    return ""
