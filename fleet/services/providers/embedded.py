"""The fleet's own Postgres and Valkey: real servers, as child processes, on the loopback, with generated passwords.

.fleet/private/postgres/   the database cluster; owned by the fleet, durable, SCRAM for every connection
.fleet/private/valkey/     Valkey's configuration (0600, it holds the password); it keeps no data, for it carries hints
.fleet/private/ports.json  where they listen
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import psutil

from fleet import errors, invocation
from fleet.config import datastores, ports
from fleet.config.credentials import Credentials
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.services.providers import binaries, identity, probes
from fleet.services.supervision.service import Command, Identity, Limits, Service

DATABASES = 64  # of Valkey, so that each worker of a test run can have one of its own
_CAUSE = re.compile(r"\b(ERROR|FATAL|PANIC|error):")
_SYNC_OFF = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class Embedded:
    """Postgres and Valkey for one home. `durable=False` is for throw-away clusters: it does not wait for the disk."""

    name = "embedded"

    def __init__(self, home: Home, credentials: Credentials, *, durable: bool = True) -> None:
        self.home = home
        self._ports = ports.Ports(home)
        self.credentials = credentials
        self.durable = durable

    def services(self, *, limits: Limits) -> tuple[Service, ...]:
        return (
            Service(
                name="postgres",
                command=self._postgres,
                probe=lambda: probes.postgres(self.endpoints().postgres),
                stop_signal=signal.SIGINT,  # "fast": roll back what is open, write all, end
                grace_s=30,
                limits=limits,
            ),
            Service(
                name="valkey",
                command=self._valkey,
                probe=lambda: probes.redis_server(self.endpoints().redis_url),
                limits=limits,
            ),
        )

    def endpoints(self) -> datastores.Endpoints:
        """Where they listen now (the ports are known once a start was prepared)."""
        return datastores.resolve(Environment({}), self.home, self.credentials)

    def _postgres(self) -> Command:
        programs, data = binaries.postgres(), self.home.private / "postgres"
        whom = identity.for_postgres(data, programs / "postgres")
        if not data.exists():
            _create_cluster(data, programs, whom, self.credentials)
        _reclaim(data)
        port = self._ports.choose("postgres")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "max_connections": "400",
            "jit": "off",
            "log_min_error_statement": "panic",  # a statement may hold what no log should
            "log_parameter_max_length_on_error": "0",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # The folder is named by the working directory: `nobody` may not walk the private path that leads to it.
        return Command(
            argv=(str(programs / "postgres"), "-D", _here(data, whom), *options, *(() if self.durable else _SYNC_OFF)),
            cwd=data,
            identity=whom,
        )

    def _valkey(self) -> Command:
        folder = self.home.private / "valkey"
        folder.mkdir(mode=0o700, exist_ok=True)
        lines = (
            "bind 127.0.0.1",
            f"port {self._ports.choose('valkey')}",
            f'requirepass "{self.credentials.redis_password}"',
            f"databases {DATABASES}",
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
        )
        write_private(folder / "valkey.conf", "\n".join(lines) + "\n")
        return Command(argv=(str(binaries.valkey()), "valkey.conf"), cwd=folder)


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, not even for the moment between making and closing it."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _create_cluster(data: Path, programs: Path, whom: Identity, credentials: Credentials) -> None:
    """initdb, the role and the database, in a folder that gets its name when all is done: no half is ever used."""
    draft = data.with_name("postgres.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    identity.give(draft, whom)
    here = _here(draft, whom)
    # Nothing listens yet. The passwords go in through standard input, where no process list and no file shows them.
    _run(
        [programs / "initdb", "-D", here, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"],
        draft,
        whom,
    )
    roles = (
        f"ALTER ROLE postgres PASSWORD '{credentials.postgres_admin_password}'\n"
        f"CREATE ROLE {datastores.OWNER} NOLOGIN\n"
        f"CREATE ROLE fleet LOGIN PASSWORD '{credentials.postgres_password}'\n"
        f"CREATE DATABASE fleet OWNER {datastores.OWNER}\n"
    )
    _run([programs / "postgres", "--single", "-D", here, "postgres"], draft, whom, roles)
    (draft / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    draft.rename(data)


def _run(argv: list[str | Path], cwd: Path, whom: Identity, given: str = "") -> None:
    command = identity.launched([str(part) for part in argv], identity=whom, on_orphan=signal.SIGKILL)
    done = subprocess.run(command, cwd=cwd, input=given, capture_output=True, text=True, timeout=120)
    # A single-user server says what is wrong with a statement and goes on, so its exit code alone is no proof.
    if done.returncode != 0 or "ERROR:" in done.stderr or "FATAL:" in done.stderr:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        causes = [line.strip() for line in lines if _CAUSE.search(line)]  # the first one; what follows comes of it
        said = causes[:1] or lines[-3:]
        raise errors.Unavailable(
            f"{Path(argv[0]).name} could not prepare {cwd}: {' '.join(said)}",
            hint=f"Check the disk's free space and the folder's owner: {invocation.command('fleet_doctor')}",
        )


def _here(data: Path, whom: Identity) -> str:
    return "/proc/self/cwd" if whom == "nobody" else str(data)


def _reclaim(data: Path) -> None:
    """Make way for a new server: stop one that a killed supervisor left, forget a pid file whose process is gone.

    Postgres itself only asks whether *some* process has that pid, which after a restart of the host may be anybody.
    """
    note = data / "postmaster.pid"
    try:
        process = psutil.Process(int(note.read_text().split("\n", 1)[0]))
        ours = process.name() == "postgres" and Path(process.cwd()) == data
    except FileNotFoundError:
        return
    except (ValueError, psutil.Error):
        ours = False
    if ours:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
    note.unlink(missing_ok=True)
