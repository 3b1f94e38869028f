"""The scripts that run Postgres and Valkey in a container, run here with the servers of the embedded provider."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from fleet.config import ports, programs
from fleet.services.providers import identity
from fleet.services.supervision.service import Identity
from tests.support.waiting import until

SCRIPTS = Path(identity.__file__).parent / "scripts"
PASSWORD = "a@b:/#%'\"\\ $x `y`"
Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start a script with the given environment; Postgres not as root."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
        os.chmod(tmp_path, 0o777)
        for folder in tmp_path.parents[:2]:
            folder.chmod(folder.stat().st_mode | 0o011)
        path = f"{programs.postgres()}:{programs.valkey().parent}:/usr/bin:/bin"
        user: Identity = "namespace" if os.geteuid() == 0 else "same"
        process = subprocess.Popen(
            identity.launch_command(["sh", str(SCRIPTS / script), *arguments], identity=user),
            env={"PATH": path, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(2)
            process.wait(30)


def output(process: subprocess.Popen[str]) -> tuple[int, str]:
    text, _ = process.communicate(timeout=60)
    return process.returncode, text


def until_healthy(run: Run, script: str, server: subprocess.Popen[str], **env: str) -> None:
    def is_healthy() -> bool:
        assert server.poll() is None, output(server)
        return run(script, "healthy", **env).wait(20) == 0

    until(is_healthy, within_s=60)


def test_postgres_creates_its_roles_once_and_accepts_only_passwords(run: Run, tmp_path: Path) -> None:
    port = ports.find_free()
    env = {
        "PGDATA": str(tmp_path / "data"), "PGPORT": str(port),
        "POSTGRES_OWNER_PASSWORD": PASSWORD, "POSTGRES_PASSWORD": f"{PASSWORD}2",
    }  # fmt: skip
    for _ in range(2):
        server = run("postgres.sh", **env)
        until_healthy(run, "postgres.sh", server, **env)
        at: dict[str, Any] = {"host": "127.0.0.1", "port": port, "dbname": "fleet"}
        with psycopg.connect(**at, user="postgres", password=PASSWORD, options="-c role=fleet_owner") as owner:
            owner.execute("CREATE TABLE IF NOT EXISTS kept (x int)")
        with psycopg.connect(**at, user="fleet", password=f"{PASSWORD}2") as application:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                application.execute("SELECT * FROM kept")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(**at, user="fleet", password="wrong")
        server.send_signal(2)
        _, text = output(server)
        assert PASSWORD not in text


def test_postgres_does_not_start_without_the_owners_password_or_with_data_of_another_version(
    run: Run, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert output(run("postgres.sh", PGDATA=str(data))) == (1, "postgres: POSTGRES_OWNER_PASSWORD is not set.\n")
    assert not data.exists()
    data.mkdir()
    (data / "PG_VERSION").write_text("9\n")
    data.chmod(0o755)
    code, text = output(run("postgres.sh", PGDATA=str(data)))
    assert code == 1
    assert "was created by Postgres 9, but this image has Postgres" in text


def test_postgres_names_a_secret_file_that_it_cannot_read(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()  # not a file
    code, text = output(run("postgres.sh", PGDATA=str(tmp_path / "data"), POSTGRES_OWNER_PASSWORD_FILE=str(secret)))
    assert code == 1
    assert f"POSTGRES_OWNER_PASSWORD_FILE: {secret} cannot be read" in text


def test_valkey_requires_its_password_which_may_contain_anything(run: Run, tmp_path: Path) -> None:
    port = ports.find_free()
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o644)
    env = {"VALKEY_PORT": str(port), "REDIS_PASSWORD_FILE": str(file)}
    server = run("valkey.sh", **env)

    def answers() -> bool:
        assert server.poll() is None, output(server)
        with contextlib.suppress(redis.ConnectionError), redis.Redis(port=port, password=PASSWORD) as client:
            return bool(client.ping())
        return False

    until(answers, within_s=20)
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert output(run("valkey.sh")) == (1, "valkey: REDIS_PASSWORD is not set.\n")
    assert PASSWORD not in " ".join(Path(f"/proc/{server.pid}/cmdline").read_text().split("\0"))
