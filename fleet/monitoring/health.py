"""`/healthz`: this process is alive. `/readyz`: the services that it needs answer. Neither needs authentication.

Apps add checks with `register`, from their `registrations.py`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypedDict

import psycopg
import redis
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from fleet import registrations
from fleet.console import invocation
from fleet.postgres import parameters
from fleet.redis import clients

log = logging.getLogger("fleet.health")

TIMEOUT_S = 3

Check = Callable[[], str]  # returns the error as a sentence, or ""; it may query the database
_registered: dict[str, tuple[str, Check]] = {}


class Result(TypedDict):
    ok: bool
    why: str  # the error; empty if there is none


def register(name: str, *, error: str, check: Check) -> None:
    """Add a check to `/readyz`. `error` is reported if the check raises."""
    _registered[name] = error, check


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """`{ready, checks: {database, migrations, redis, queue, …: {ok, why}}}`, with status 503 if any check fails."""
    checks = _shared_checks()
    ready = all(check["ok"] for check in checks.values())
    return JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)


_lock = threading.Lock()
_running: Future[dict[str, Result]] | None = None


def _shared_checks() -> dict[str, Result]:
    """The results of the checks. Requests that arrive while a process runs them share their results: anyone may send
    any number of requests, and each check opens a connection to Postgres."""
    global _running
    with _lock:
        future, is_first = _running or Future(), _running is None
        _running = future
    if is_first:
        try:
            future.set_result(_checks())
        except BaseException as error:
            future.set_exception(error)
        finally:
            with _lock:
                _running = None
    return future.result()


def _checks() -> dict[str, Result]:
    registrations.load()
    database = _run("Postgres does not answer.", _database)
    need_database = {"migrations": ("The migrations cannot be read.", _migrations), **_registered}
    unknown = Result(ok=False, why="Unknown, because Postgres does not answer.")
    return {
        "database": database,
        "redis": _run("Redis does not answer. Missions continue without it, more slowly.", _redis),
        **{name: _run(*check) if database["ok"] else unknown for name, check in need_database.items()},
    }


def _run(error: str, check: Check) -> Result:
    """Run a check. If it raises, the client gets `error`; the exception names hosts and users, so it is only logged."""
    try:
        why = check()
    except (Error, psycopg.Error, redis.RedisError, OSError):
        log.warning("%s", error, exc_info=True)
        why = error
    return Result(ok=not why, why=why)


def _database() -> str:
    """Query Postgres through a new connection, because an old one would wait for a halted server until TCP gives up."""
    libpq = parameters.from_django(application_name="health") | {"connect_timeout": TIMEOUT_S}
    with psycopg.connect(**libpq) as fresh:
        fresh.execute("SELECT 1")
    return ""


def _migrations() -> str:
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    return f"{missing} migrations are not applied. Apply them: {invocation.command('migrate')}" if missing else ""


def _redis() -> str:
    with clients.client(settings.FLEET_ENDPOINTS.redis_url, timeout_s=TIMEOUT_S) as client:
        client.ping()
    return ""
