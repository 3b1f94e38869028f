"""`fleet_prepare --application-role` creates the application's role on an external Postgres, and sets its password."""

from __future__ import annotations

import os
import subprocess

import psycopg
import pytest
from psycopg import sql

from tests.support.postgres.cluster import Cluster, url
from tests.support.processes import warm

pytestmark = pytest.mark.xdist_group("roles")
NAME = "newcomer"


@pytest.fixture
def environment(private_services: Cluster) -> dict[str, str]:
    """The environment of a fleet whose application's role does not exist yet. Its passwords are not in the URLs."""
    endpoints = private_services.endpoints()
    assert endpoints.owner is not None
    with private_services.administrator() as administrator:
        administrator.execute("DROP DATABASE IF EXISTS fresh WITH (FORCE)")
        administrator.execute(f"DROP ROLE IF EXISTS {NAME}")
        administrator.execute("CREATE DATABASE fresh OWNER fleet_owner")
    values = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "REDIS_"))}
    owner = url(endpoints.owner, database="fresh").replace(f":{endpoints.owner.password}@", "@")
    return {
        **values,
        "FLEET_HOME": str(private_services.home.root),
        "DATABASE_URL": f"postgresql://{NAME}@127.0.0.1:{endpoints.postgres.port}/fresh",
        "DATABASE_OWNER_URL": owner,
        "POSTGRES_OWNER_PASSWORD": endpoints.owner.password,
        "REDIS_URL": endpoints.redis_url,
    }


def prepare(environment: dict[str, str], password: str) -> subprocess.CompletedProcess[str]:
    env = {**environment, "POSTGRES_PASSWORD": password}
    return warm.shared().manage("fleet_prepare", "--application-role", env=env, timeout=100)


def connect(environment: dict[str, str], password: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(environment["DATABASE_URL"], password=password, autocommit=True)


def test_the_role_is_created_owns_nothing_and_may_use_every_table(environment: dict[str, str]) -> None:
    result = prepare(environment, "it's \\ first")
    assert result.returncode == 0, result.stderr
    with connect(environment, "it's \\ first") as session:
        assert session.execute("SELECT count(*) FROM missions_sortie").fetchone() == (0,)
        for attempt in ("CREATE TABLE x ()", "CREATE ROLE other", "SET ROLE fleet_owner", "DROP TABLE missions_sortie"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(sql.SQL(attempt))
        owned = "SELECT count(*) FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
        assert session.execute(sql.SQL(owned)).fetchone() == (0,)
    check_result = warm.shared().manage(
        "fleet_audit", "verify", env={**environment, "POSTGRES_PASSWORD": "it's \\ first"}, timeout=100
    )
    assert check_result.returncode == 0, check_result.stdout + check_result.stderr


def test_a_new_password_replaces_the_old_one(environment: dict[str, str]) -> None:
    for password in ("first", "second"):
        result = prepare(environment, password)
        assert result.returncode == 0, result.stderr
    connect(environment, "second").close()
    with pytest.raises(psycopg.OperationalError, match="password"):
        connect(environment, "first")


def test_it_needs_the_owner(environment: dict[str, str]) -> None:
    del environment["DATABASE_OWNER_URL"]
    result = prepare(environment, "x")
    assert result.returncode != 0
    assert "Set DATABASE_OWNER_URL" in result.stderr
