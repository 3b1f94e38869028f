"""The shared cluster of the test suite, and private clusters."""

import os

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from tests.support.postgres.cluster import Cluster


@pytest.mark.django_db
def test_each_worker_has_a_database_of_its_own() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone()[0] == "_".join(filter(None, ["test_fleet", worker]))


def test_each_worker_has_a_redis_index_of_its_own() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    index = int(worker.removeprefix("gw")) + 1 if worker else 0
    with redis.Redis.from_url(settings.FLEET_ENDPOINTS.redis_url) as client:
        assert client.client_info()["db"] == index


def test_a_private_postgres_keeps_its_rows_through_kill_and_restart(private_services: Cluster) -> None:
    url = private_services.environment()["DATABASE_OWNER_URL"]
    with psycopg.connect(url) as session:
        session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    private_services.kill("postgres")
    private_services.restart("postgres")
    with psycopg.connect(url) as session:
        assert session.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_private_valkey_loses_its_data_at_a_restart_and_keeps_its_address(private_services: Cluster) -> None:
    url = private_services.environment()["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        client.set("hint", "1")
    private_services.restart("valkey")
    with redis.Redis.from_url(url) as client:
        assert client.get("hint") is None


def test_a_paused_service_does_not_answer_until_it_is_resumed(private_services: Cluster) -> None:
    url = private_services.environment()["REDIS_URL"]
    with redis.Redis.from_url(url, socket_timeout=0.2, retry=None) as client:
        private_services.pause("valkey")
        with pytest.raises(redis.exceptions.TimeoutError):
            client.ping()
        private_services.resume("valkey")
    with redis.Redis.from_url(url) as client:
        assert client.ping()
