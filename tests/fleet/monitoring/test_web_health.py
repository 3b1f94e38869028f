"""Health is about the process alone, readiness about the services that it needs. Neither reveals their addresses."""

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
    answer = client.get("/readyz")
    assert answer.status_code == 200
    fine = {"ok": True, "why": ""}
    assert answer.json() == {
        "ready": True,
        "checks": {"database": fine, "migrations": fine, "redis": fine, "queue": fine},
    }


@pytest.mark.django_db
def test_without_redis_it_is_healthy_and_not_ready(client: Client) -> None:
    nowhere = replace(settings.FLEET_ENDPOINTS, redis_url="redis://:hush@127.0.0.1:1/0")
    with override_settings(FLEET_ENDPOINTS=nowhere):
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert not checks["redis"]["ok"]
    assert "Redis does not answer" in checks["redis"]["why"]
    assert checks["database"]["ok"]
    assert "hush" not in answer.content.decode()


@pytest.mark.django_db
def test_a_missing_migration_is_reported_with_a_hint(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'fleet'")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "manage.py migrate" in answer.json()["checks"]["migrations"]["why"]


@pytest.mark.django_db
def test_work_without_agents_is_reported(client: Client) -> None:
    fleet.launch({"alone": {}})
    Sortie.objects.update(ready_at=Now() - timedelta(minutes=20))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["queue"]["why"].startswith("A sortie has waited 20 min")
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
    answer = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=60)
    health, ready, result = json.loads(answer.stdout)
    assert (health, ready) == (200, 503), answer.stderr
    assert result["checks"]["database"] == {"ok": False, "why": "Postgres does not answer."}
    assert not result["checks"]["migrations"]["ok"]
    assert result["checks"]["redis"]["ok"]
    assert "hush" not in answer.stdout + answer.stderr
