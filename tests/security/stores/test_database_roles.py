"""The application's database password is not enough to replace or own the database, or to rewrite the audit trail."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest

from fleet import errors
from fleet.config import credentials, datastores
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.services.providers import probes
from tests.support.postgres.cluster import Cluster
from tests.support.processes import warm

SERVICES = {"DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL"}
TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname = 'public' AND NOT (
    has_table_privilege('fleet', format('%I.%I', schemaname, tablename), 'SELECT')
    AND has_table_privilege('fleet', format('%I.%I', schemaname, tablename), 'INSERT')
    AND has_table_privilege('fleet', format('%I.%I', schemaname, tablename), 'UPDATE')
    AND has_table_privilege('fleet', format('%I.%I', schemaname, tablename), 'DELETE')
)
"""
# As in clusters that were created before the owner had its own role.
AS_BEFORE = (
    "ALTER ROLE fleet CREATEDB",
    "ALTER DATABASE fleet OWNER TO fleet",
    "DROP OWNED BY fleet_owner",
    "DROP ROLE fleet_owner",
)


def manage(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in SERVICES}
    return warm.shared().manage(*arguments, env={**environment, **cluster.embedded_environment()}, timeout=100)


def session(
    cluster: Cluster, *, as_superuser: bool = False, database: str = "fleet"
) -> psycopg.Connection[tuple[object, ...]]:
    at = cluster.endpoints().postgres
    user, password = at.user, at.password
    if as_superuser:
        user, password = "postgres", cluster.embedded.credentials.postgres_admin_password
    return psycopg.connect(host=at.host, port=at.port, user=user, password=password, dbname=database, autocommit=True)


@pytest.mark.xdist_group("roles")
def test_the_application_cannot_replace_the_database_with_a_copy(private_services: Cluster) -> None:
    result = manage(private_services, "migrate")
    assert result.returncode == 0, result.stderr
    for database in ("postgres", "template1", "template0"):
        with pytest.raises(psycopg.OperationalError):
            session(private_services, database=database)
    with session(private_services) as attacker:
        for attempt in (
            "CREATE DATABASE rebuilt",
            "CREATE DATABASE rebuilt TEMPLATE fleet",
            "ALTER DATABASE fleet RENAME TO genuine",
            "SET ROLE fleet_owner",
            "SET ROLE fleet_audit",
            "SET SESSION AUTHORIZATION postgres",
            "GRANT fleet_owner TO fleet",
            "ALTER ROLE fleet CREATEDB",
            "CREATE ROLE other",
            "ALTER TABLE auth_user DISABLE TRIGGER ALL",
            "DROP TABLE auth_user",
            "TRUNCATE auth_user CASCADE",
            "CREATE TABLE public.other ()",
            "CREATE SCHEMA other",
            "SET session_replication_role = replica",
            "DROP SCHEMA fleet_audit CASCADE",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                attacker.execute(attempt)
    with session(private_services, as_superuser=True) as boss:
        assert boss.execute(TABLES).fetchall() == []  # the application can use every table that the migrations create


@pytest.mark.xdist_group("roles")
def test_a_home_without_the_owners_role_is_converted(private_services: Cluster) -> None:
    manage(private_services, "migrate")
    with session(private_services, as_superuser=True) as boss:
        boss.execute("REASSIGN OWNED BY fleet_owner TO fleet")
        for statement in AS_BEFORE:
            boss.execute(statement)
    doctor = manage(private_services, "fleet_doctor").stdout
    assert "ERROR audit trail" in doctor
    verify_result = manage(private_services, "fleet_audit", "verify")
    assert verify_result.returncode == 1  # protected before the conversion
    assert "owns the database" in verify_result.stdout + verify_result.stderr
    for _ in range(2):  # repeating it changes nothing
        result = manage(private_services, "migrate")
        assert result.returncode == 0, result.stderr
    assert "ok    audit trail" in manage(private_services, "fleet_doctor").stdout
    assert manage(private_services, "fleet_audit", "verify").returncode == 0
    with session(private_services) as application, pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute("ALTER DATABASE fleet RENAME TO genuine")


def test_a_server_that_requests_the_password_in_clear_text_does_not_get_it(tmp_path: Path) -> None:
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def impostor() -> None:
            line, _ = listener.accept()
            with line:
                line.settimeout(20)
                if line.recv(1024)[4:8] == b"\x04\xd2\x16\x2f":  # the client asks for TLS
                    line.sendall(b"N")
                    line.recv(1024)
                line.sendall(b"R\0\0\0\x08\0\0\0\x03")  # AuthenticationCleartextPassword
                received.append(line.recv(1024))

        thread = threading.Thread(target=impostor)
        thread.start()
        home = Home(tmp_path)
        known = credentials.ensure(home)
        (home.private / "ports.json").write_text(json.dumps({"postgres": listener.getsockname()[1], "valkey": 1}))
        endpoints = datastores.resolve(Environment({"FLEET_EMBEDDED_SOCKETS": "no"}), home, known)
        with pytest.raises(errors.FleetError):
            asyncio.run(probes.postgres(endpoints.postgres))
        thread.join(30)
    assert received
    assert known.postgres_password.encode() not in received[0]


@pytest.mark.xdist_group("roles")
def test_changes_by_the_application_to_its_own_role_are_repaired(private_services: Cluster) -> None:
    manage(private_services, "migrate")
    with session(private_services) as application:
        application.execute("ALTER ROLE fleet SET search_path = pg_temp")
        application.execute("ALTER ROLE fleet IN DATABASE fleet SET default_transaction_read_only = on")
        application.execute("DROP OWNED BY fleet")
    with session(private_services) as application, pytest.raises(psycopg.Error):
        application.execute("SELECT count(*) FROM auth_user")
    result = manage(private_services, "migrate")
    assert result.returncode == 0, result.stderr
    with session(private_services) as application:
        assert application.execute("SHOW default_transaction_read_only").fetchone() == ("off",)
        application.execute("SELECT count(*) FROM auth_user")
        application.execute("UPDATE auth_user SET is_active = is_active")
    assert manage(private_services, "fleet_audit", "verify").returncode == 0
