"""Health covers only the process; readiness also covers the services that it needs. Neither reveals addresses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from django.test import Client, override_settings

from missions.models import Sortie
from tests.support import fleet

ASK = """
import django, json; django.setup()
from django.test import Client
health, ready = Client().get("/healthz"), Client().get("/readyz")
print(json.dumps([health.status_code, ready.status_code, ready.json()]))
"""


@pytest.mark.django_db
def test_readiness_lists_each_required_service(client: Client) -> None:
    assert client.get("/healthz").content == b"ok\n"
    result = client.get("/readyz")
    assert result.status_code == 200
    fine = {"ok": True, "why": ""}
    assert result.json() == {
        "ready": True,
        "checks": {"database": fine, "migrations": fine, "redis": fine, "queue": fine},
    }


@pytest.mark.django_db
def test_without_redis_it_is_healthy_and_not_ready(client: Client) -> None:
    nowhere = replace(settings.FLEET_ENDPOINTS, redis_url="redis://:hush@127.0.0.1:1/0")
    with override_settings(FLEET_ENDPOINTS=nowhere):
        assert client.get("/healthz").status_code == 200
        result = client.get("/readyz")
    assert result.status_code == 503
    checks = result.json()["checks"]
    assert not checks["redis"]["ok"]
    assert "Redis does not answer" in checks["redis"]["why"]
    assert checks["database"]["ok"]
    assert "hush" not in result.content.decode()


@pytest.mark.django_db
def test_a_missing_migration_is_reported_with_a_hint(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'fleet'")
    result = client.get("/readyz")
    assert result.status_code == 503
    assert "manage.py migrate" in result.json()["checks"]["migrations"]["why"]


@pytest.mark.django_db
def test_work_without_agents_is_reported(client: Client) -> None:
    fleet.launch({"alone": {}})
    Sortie.objects.update(ready_at=Now() - timedelta(minutes=20))
    result = client.get("/readyz")
    assert result.status_code == 503
    assert result.json()["checks"]["queue"]["why"].startswith("A sortie has waited 20 min")
    with override_settings(FLEET_ALERT_QUEUE_S=0):
        assert client.get("/readyz").status_code == 200


def test_without_postgres_it_is_healthy_and_not_ready() -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "fleet.settings",
        "DATABASE_URL": "postgresql://somebody:hush@127.0.0.1:1/nothing",
        "REDIS_URL": settings.FLEET_ENDPOINTS.redis_url,
        "FLEET_ALLOWED_HOSTS": "testserver",
    }
    completed = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=60)
    health, ready, result = json.loads(completed.stdout)
    assert (health, ready) == (200, 503), completed.stderr
    assert result["checks"]["database"] == {"ok": False, "why": "Postgres does not answer."}
    assert not result["checks"]["migrations"]["ok"]
    assert result["checks"]["redis"]["ok"]
    assert "hush" not in completed.stdout + completed.stderr
