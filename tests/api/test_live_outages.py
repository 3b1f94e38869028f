"""Streams continue after a restart of Postgres and an outage of Redis, without missing an event."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psycopg

from tests.support.postgres.cluster import Cluster
from tests.support.processes import live, warm
from tests.support.processes.live import Listener
from tests.support.waiting import until

CREATE_KEY = """
from fleet.access import operations
from fleet.access.models import Role
user = operations.create_user(name="boss", role=Role.ADMIN)
print(operations.create_key(user=user, name="one", scopes=["read"]).text)
"""


def test_a_stream_survives_a_restart_of_postgres_and_an_outage_of_redis(
    private_services: Cluster, tmp_path: Path
) -> None:
    env = private_services.environment()
    whole = {**os.environ, **env, "DJANGO_SETTINGS_MODULE": "fleet.settings"}
    assert warm.shared().manage("migrate", "-v0", env=whole).returncode == 0
    key = warm.shared().manage("shell", "--no-imports", "-c", CREATE_KEY, env=whole).stdout.strip()
    headers = {"Authorization": f"Bearer {key}"}
    path = "/api/v1/events/stream"

    def write_event(number: int) -> None:
        with psycopg.connect(env["DATABASE_URL"]) as database:
            database.execute(
                "INSERT INTO fleet_event (kind, data) VALUES ('x.told', %s)", [json.dumps({"number": number})]
            )

    def numbers(listener: Listener) -> list[int]:
        return [data["data"]["number"] for _, kind, data in listener.events if kind == "x.told"]

    private_services.kill("valkey")
    with live.serving(tmp_path, env) as web, Listener(web, path, **headers) as first:
        write_event(0)
        until(lambda: numbers(first) == [0])
        private_services.restart("postgres")
        write_event(1)
        until(lambda: numbers(first) == [0, 1])
        private_services.kill("postgres")
        until(lambda: "listeners wait" in web.log_text)
        assert not first.ended.is_set()
        private_services.restart("postgres")
        write_event(2)
        until(lambda: numbers(first) == [0, 1, 2])
        with Listener(web, path, **headers, Last_Event_ID=first.events[0][0]) as second:
            start = time.monotonic()
            until(lambda: numbers(second)[-1:] == [2] or time.monotonic() > start + 20)
            assert numbers(second) in ([1, 2], [0, 1, 2])
        assert "Traceback" not in web.log_text
