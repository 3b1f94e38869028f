"""A Postgres and a Redis that speak only TLS, from programs of this host that were built with OpenSSL."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fleet.config import ports, programs
from tests.support.services.certificates import Certificate
from tests.support.services.servers import Server, run_as_server
from tests.support.waiting import until

PASSWORD = "of-both-servers"


def postgres(folder: Path, certificate: Certificate) -> Server:
    """A Postgres with the role and the database `fleet`. Skips the test if no Postgres here knows TLS."""
    binaries = next(_postgres_with_tls(), None)
    if binaries is None:
        pytest.skip("no Postgres on this host was built with OpenSSL")
    port, data = ports.find_free(), folder / "postgres"
    data.mkdir(parents=True, mode=0o700)
    run_as_server([binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"], cwd=data)
    (data / "pg_hba.conf").write_text("hostssl all fleet all scram-sha-256\nhostssl all postgres 127.0.0.1/32 trust\n")
    settings = {
        "port": str(port), "listen_addresses": "localhost", "unix_socket_directories": "", "fsync": "off",
        "max_connections": "200", "ssl": "on",
        "ssl_cert_file": str(certificate.file), "ssl_key_file": str(certificate.key),
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = Server([binaries / "postgres", "-D", data, *options], folder=data, port=port, name="postgres")
    server.start()
    with until(lambda: _administrator(port)) as session:
        session.execute(f"CREATE ROLE fleet LOGIN PASSWORD '{PASSWORD}'")
        session.execute("CREATE DATABASE fleet OWNER fleet")
    return server


def redis_server(folder: Path, certificate: Certificate) -> Server:
    """A Redis without an ordinary port. Skips the test if no Redis here knows TLS."""
    program = next(_redis_with_tls(folder), None)
    if program is None:
        pytest.skip("no redis-server or valkey-server on this host was built with TLS")
    port = ports.find_free()
    lines = [
        "bind 127.0.0.1 -::1", "port 0", f"tls-port {port}", "tls-auth-clients no", 'save ""',
        f"tls-cert-file {certificate.file}", f"tls-key-file {certificate.key}", f"tls-ca-cert-file {certificate.file}",
        f"requirepass {PASSWORD}",
    ]  # fmt: skip
    (folder / "redis.conf").write_text("\n".join(lines) + "\n")
    server = Server([program, "redis.conf"], folder=folder, port=port, name="redis")
    server.start()
    return server


def _administrator(port: int) -> psycopg.Connection | None:
    """A connection as the superuser; None while the server is starting."""
    with contextlib.suppress(psycopg.OperationalError):
        return psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", dbname="postgres", sslmode="require", autocommit=True
        )
    return None


def _postgres_with_tls() -> Iterator[Path]:
    for folder in (programs.postgres(), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)):
        config = folder / "pg_config"
        if config.exists() and (folder / "initdb").exists():
            options = subprocess.run([config, "--configure"], capture_output=True, text=True, timeout=20).stdout
            if "openssl" in options:
                yield folder


def _redis_with_tls(folder: Path) -> Iterator[str]:
    for name in ("redis-server", "valkey-server"):
        program = shutil.which(name)
        if program is None:
            continue
        # Without a certificate it fails in any case. The error shows whether the build knows TLS.
        result = subprocess.run(
            [program, "--port", "0", "--tls-port", str(ports.find_free())],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=20,
        )
        if "Bad directive" not in result.stdout + result.stderr:
            yield program
