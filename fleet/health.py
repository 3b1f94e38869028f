"""`/healthz`: this process is there. `/readyz`: what it stands on answers too. Both are open to anybody."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypedDict

import redis
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

log = logging.getLogger("fleet.health")

REDIS_TIMEOUT_S = 2


class Answer(TypedDict):
    ok: bool
    why: str  # empty where all is well


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """`{ready, checks: {database, migrations, redis: {ok, why}}}`, with status 503 where one is not ok."""
    database = _answer("Postgres does not answer.", _database)
    checks = {
        "database": database,
        "migrations": _answer("Migrations cannot be read.", _migrations)
        if database["ok"]
        else Answer(ok=False, why="Unknown while Postgres does not answer."),
        "redis": _answer("Redis does not answer. Missions go on without it, with more delay.", _redis),
    }
    ready = all(check["ok"] for check in checks.values())
    return JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)


def _answer(fault: str, check: Callable[[], str]) -> Answer:
    """What the check says is wrong; `fault` where it raises. The exception names hosts and users: it is for the log."""
    try:
        why = check()
    except (Error, redis.RedisError, OSError):
        log.warning("%s", fault, exc_info=True)
        why = fault
    return Answer(ok=not why, why=why)


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return ""


def _migrations() -> str:
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    return f"{missing} migrations are not applied. Run: manage.py migrate" if missing else ""


def _redis() -> str:
    with redis.Redis.from_url(
        settings.FLEET_ENDPOINTS.redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    ) as client:
        client.ping()
    return ""
