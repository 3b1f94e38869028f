"""A connection to a halted Postgres is closed although TCP is alive. A slow statement is not interrupted."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import override_settings

from fleet import postgres
from fleet.postgres import hot_path
from tests.support.services.proxy import Proxy

SHORT_TIMEOUT = override_settings(FLEET_POSTGRES_TIMEOUT_S=0.1)


def address(**more: object) -> dict[str, Any]:
    value = connection.get_connection_params()
    return {name: value[name] for name in ("host", "port", "user", "password", "dbname")} | more


@pytest.mark.django_db
def test_all_connections_detect_a_halted_server() -> None:
    connection.ensure_connection()
    assert isinstance(connection.connection, postgres.Connection)
    with hot_path.connect(name="test") as engines:
        assert isinstance(engines, postgres.Connection)


@SHORT_TIMEOUT
def test_a_slow_statement_continues_while_postgres_accepts_connections() -> None:
    with postgres.connect(**address()) as session:
        assert session.execute("SELECT 7 FROM pg_sleep(0.5)").fetchone() == (7,)


@SHORT_TIMEOUT
def test_a_statement_fails_if_postgres_accepts_no_connection() -> None:
    with Proxy(int(address()["port"])) as way:
        session = postgres.connect(**address(port=way.port, connect_timeout=2))  # the minimum of psycopg
        way.halt()
        with pytest.raises(
            psycopg.OperationalError, match=r"no answer for 2(\.\d)? s, and it accepts no new connection"
        ):
            session.execute("SELECT 1")
        assert session.broken
