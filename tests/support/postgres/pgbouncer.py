"""PgBouncer in front of a cluster of the tests, with the configuration that the project ships."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from fleet.config import ports
from fleet.config.datastores import Postgres
from tests.support.paths import CHECKOUT
from tests.support.services.servers import Server

SHIPPED = CHECKOUT / "deploy" / "pgbouncer.ini"
SERVER_CONNECTIONS = 4  # fewer than clients, so that each transaction may get a different one


def pgbouncer(folder: Path, postgres: Postgres) -> Server:
    """PgBouncer, not started. Skips the test where it is not installed."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    port = ports.find_free()
    users = folder / "userlist.txt"
    users.write_text(f'"{postgres.user}" "{postgres.password}"\n')
    own = {
        "fleet": f"host={postgres.host} port={postgres.port} dbname={postgres.name}",
        "listen_port": str(port),
        "auth_file": str(users),
        "default_pool_size": str(SERVER_CONNECTIONS),
    }
    lines = [_with(line, own) for line in SHIPPED.read_text().splitlines()]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\nunix_socket_dir =\nserver_tls_sslmode = disable\n")
    return Server([program, "pgbouncer.ini"], folder=folder, port=port, name="pgbouncer")


def _with(line: str, own: dict[str, str]) -> str:
    match = re.match(r"(\w+) = ", line)
    return f"{match[1]} = {own[match[1]]}" if match and match[1] in own else line
