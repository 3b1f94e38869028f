"""In the embedded Postgres the audit trail belongs to a role that nobody can log in as."""

from __future__ import annotations

import os
import subprocess

import psycopg
import pytest

from tests.support.postgres.cluster import Cluster
from tests.support.processes import warm

RECORD = (
    "INSERT INTO fleet_audit.entry (kind, outcome, actor, address, request, subject, data) "
    "VALUES ('t', 'ok', '', '', '', '', '{}')"
)


def manage(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL"}
    }
    return warm.shared().manage(*arguments, env={**environment, **cluster.embedded_environment()}, timeout=100)


def session(cluster: Cluster, *, as_superuser: bool = False) -> psycopg.Connection[tuple[object, ...]]:
    at = cluster.endpoints().postgres
    user, password = at.user, at.password
    if as_superuser:
        user, password = "postgres", cluster.embedded.credentials.postgres_admin_password
    return psycopg.connect(host=at.host, port=at.port, user=user, password=password, dbname=at.name, autocommit=True)


@pytest.mark.xdist_group("roles")
def test_the_application_role_can_only_append_to_the_audit_trail(
    private_services: Cluster,
) -> None:
    for _ in range(2):  # repeating it changes nothing
        result = manage(private_services, "fleet_prepare")
        assert result.returncode == 0, result.stderr
    with session(private_services) as fleet:
        fleet.execute(RECORD)
        assert fleet.execute("SELECT count(*) > 0 FROM fleet_audit.entry").fetchone() == (True,)
        for attempt in (
            "ALTER TABLE fleet_audit.entry DISABLE TRIGGER refuse",
            "UPDATE fleet_audit.entry SET actor = 'user:eve'",
            "DELETE FROM fleet_audit.seal",
            "TRUNCATE fleet_audit.entry",
            "DROP TABLE fleet_audit.entry",
            "DROP SCHEMA fleet_audit CASCADE",
            "ALTER SCHEMA fleet_audit RENAME TO other",
            "DROP FUNCTION fleet_audit.refuse() CASCADE",
            "CREATE OR REPLACE FUNCTION fleet_audit.caught() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TABLE fleet_audit.other ()",
            "CREATE TRIGGER quiet BEFORE INSERT ON fleet_audit.entry EXECUTE FUNCTION fleet_audit.refuse()",
            "SET ROLE fleet_audit",
            "GRANT fleet_audit TO fleet",
            RECORD.replace("(kind,", "(at, kind,").replace("('t',", "('2020-01-01', 't',"),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                fleet.execute(attempt)
        fleet.execute(
            "UPDATE auth_user SET first_name = 'x'"
        )  # still recorded, by the function that replaced the fleet's
        found = fleet.execute("SELECT actor, subject FROM fleet_audit.entry WHERE kind = 'database.update'").fetchall()
        assert found == [("database:fleet", "auth_user")]
    seal_result = manage(private_services, "shell", "-c", "from fleet.audit import sealing; print(sealing.seal())")
    assert seal_result.stdout.splitlines()[-1:] == ["3"], seal_result.stderr
    verify_result = manage(private_services, "fleet_audit", "verify", "--json")
    assert '"protected": true' in verify_result.stdout
    assert verify_result.returncode == 0, verify_result.stdout
    with session(private_services, as_superuser=True) as boss, pytest.raises(psycopg.Error, match="append-only"):
        boss.execute("DELETE FROM fleet_audit.entry")
    output = manage(private_services, "fleet_doctor").stdout
    assert "ok    audit trail" in output
    with session(private_services, as_superuser=True) as boss:
        boss.execute("ALTER TABLE fleet_audit.seal DISABLE TRIGGER refuse")
    assert "the trigger refuse of seal is not enabled" in manage(private_services, "fleet_doctor").stdout


@pytest.mark.xdist_group("roles")
def test_an_external_postgres_gets_an_owner_for_the_audit_trail(private_services: Cluster) -> None:
    """Using only the SQL that the command prints."""
    urls = {name: url for name, url in private_services.environment().items() if name != "DATABASE_OWNER_URL"}
    environment = {**{name: value for name, value in os.environ.items() if name != "DATABASE_OWNER_URL"}, **urls}

    def run(*arguments: str) -> str:
        return warm.shared().manage(*arguments, env=environment, timeout=100).stdout

    with session(private_services, as_superuser=True) as boss:
        boss.execute("ALTER DATABASE fleet OWNER TO fleet")
    run("fleet_prepare")
    assert "ERROR audit trail   protected by its chain only" in run("fleet_doctor")
    assert '"protected": false' in run("fleet_audit", "verify", "--json")
    with session(private_services, as_superuser=True) as boss:
        boss.execute("CREATE ROLE keeper LOGIN PASSWORD 'x'; ALTER DATABASE fleet OWNER TO keeper")
        boss.execute("REASSIGN OWNED BY fleet TO keeper")
    at = private_services.endpoints().postgres
    environment["DATABASE_OWNER_URL"] = f"postgresql://keeper:x@{at.host}:{at.port}/{at.name}"
    run("migrate")
    assert "ok    audit trail" in run("fleet_doctor")
    with session(private_services, as_superuser=True) as boss:
        boss.execute(run("fleet_audit", "protect"))
    run("migrate", "checkpoints", "zero")
    assert "ERROR migrations" in run("fleet_doctor")
    run("fleet_prepare")  # the owner can still migrate
    assert "ok    audit trail" in run("fleet_doctor")
    with session(private_services) as fleet, pytest.raises(psycopg.errors.InsufficientPrivilege):
        fleet.execute("DELETE FROM fleet_audit.entry")
