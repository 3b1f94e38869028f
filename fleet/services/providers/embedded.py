"""The fleet's own Postgres and Valkey: child processes with generated passwords.

.fleet/private/postgres/   the database cluster: durable, with SCRAM for every connection
.fleet/private/valkey/     Valkey's configuration, mode 0600 for its password; no data, because it only carries hints
.fleet/private/ports.json  the ports on which they listen with FLEET_EMBEDDED_SOCKETS=no

By default they listen only on Unix sockets in these folders, which workloads cannot see. Whoever can connect to a port
can use up its connections: Postgres gives each one a slot before it asks for a password. And whoever can listen on the
port while Valkey restarts gets its password from the next client.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import psutil

from fleet import errors
from fleet.config import datastores, ports, programs
from fleet.config.credentials import Credentials
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.console import invocation
from fleet.services.providers import identity, probes
from fleet.services.supervision.service import AlertLimits, Command, Identity, Service

DATA = datastores.POSTGRES_FOLDER
CONVERTED = "postgres.converted"  # a complete cluster that will replace it (fleet/backup/upgrading.py)
DATABASES = 64  # of Valkey: enough for each worker of a test run to have its own
_CAUSE = re.compile(r"\b(ERROR|FATAL|PANIC|error):")
# For both kinds of addresses, because the setting may change. The socket is in the folder of the cluster.
_ACCESS = "host all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n"
_SYNC_OFF = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class Embedded:
    """Postgres and Valkey of one home, on ports of the loopback or on Unix sockets.

    `durable=False` is for throw-away clusters: writes do not wait for the disk.
    """

    name = "embedded"

    def __init__(self, home: Home, credentials: Credentials, *, durable: bool = True, sockets: bool = False) -> None:
        self.home = home
        self._ports = ports.Ports(home)
        self.credentials = credentials
        self.durable = durable
        self.sockets = sockets

    def services(self, *, limits: AlertLimits) -> tuple[Service, ...]:
        return (
            Service(
                name="postgres",
                command=self._postgres,
                probe=lambda: probes.postgres(self.endpoints().postgres),
                stop_signal=signal.SIGINT,  # Postgres's fast shutdown: abort open transactions, then checkpoint
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
        """Return the current addresses; the ports are known once the first start has been prepared."""
        values = {"FLEET_SERVICES": self.name, "FLEET_EMBEDDED_SOCKETS": "yes" if self.sockets else "no"}
        return datastores.resolve(Environment(values), self.home, self.credentials)

    def _postgres(self) -> Command:
        binaries, data = programs.postgres(), self.home.private / DATA
        finish_upgrade(self.home)
        if not data.exists():
            create_cluster(data, binaries, self.credentials)
        _require_same_version(data, binaries)
        clear_stale_server(data)
        if (data / "pg_hba.conf").read_text() != _ACCESS:  # of a cluster from before the setting existed
            (data / "pg_hba.conf").write_text(_ACCESS)
        return postgres_command(
            data,
            binaries,
            port=self._ports.choose("postgres"),
            options=() if self.durable else _SYNC_OFF,
            sockets=self.sockets,
        )

    def _valkey(self) -> Command:
        folder = self.home.private / datastores.VALKEY_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / datastores.VALKEY_SOCKET).unlink(missing_ok=True)  # left by a server that was killed
        address = (
            ("port 0", f"unixsocket {datastores.VALKEY_SOCKET}", "unixsocketperm 700")
            if self.sockets
            else ("bind 127.0.0.1", f"port {self._ports.choose('valkey')}")
        )
        lines = (
            *address,
            f'requirepass "{self.credentials.redis_password}"',
            f"databases {DATABASES}",
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
        )
        write_private(folder / "valkey.conf", "\n".join(lines) + "\n")
        return Command(argv=(str(programs.valkey()), "valkey.conf"), cwd=folder)


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600 from its creation, so that no other user can read it at any moment."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def postgres_command(
    data: Path, binaries: Path, *, port: int, options: tuple[str, ...] = (), sockets: bool = False
) -> Command:
    """The command that serves the cluster in `data` on a port of the loopback, or on a Unix socket in `data`."""
    settings = {
        "listen_addresses": "" if sockets else "127.0.0.1",
        "port": str(port),  # part of the socket's name
        "unix_socket_directories": "." if sockets else "",
        "max_connections": "400",
        "jit": "off",
        "log_min_error_statement": "panic",  # statements may contain secrets
        "log_parameter_max_length_on_error": "0",
    }
    run_as = identity.for_postgres(data, binaries / "postgres")
    arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Command(
        argv=(str(binaries / "postgres"), "-D", _data_directory(data, run_as), *arguments, *options),
        cwd=data,
        identity=run_as,
    )


def version(data: Path) -> int:
    """The major version of Postgres that created a cluster."""
    return int((data / "PG_VERSION").read_text().strip())


def _require_same_version(data: Path, binaries: Path) -> None:
    """Raise Invalid if another major version of Postgres created the cluster, because this one cannot read it."""
    created_by, installed = version(data), programs.version(binaries)
    if created_by != installed:
        raise errors.Invalid(
            f"The data in {data} was created by Postgres {created_by}, but Postgres {installed} is installed.",
            hint=f"The data is unchanged. Convert it (docs/upgrade.md): {invocation.command('fleet_services', 'upgrade')}",
        )


def finish_upgrade(home: Home) -> None:
    """Move a converted cluster into place, if the conversion was interrupted between its two renames."""
    data, converted = home.private / DATA, home.private / CONVERTED
    if converted.exists() and not data.exists():
        converted.rename(data)


def create_cluster(data: Path, binaries: Path, credentials: Credentials) -> None:
    """Run initdb and create the roles and the database, in a folder that is renamed to `data` once it is complete."""
    run_as = identity.for_postgres(data, binaries / "postgres")
    draft = data.with_name(f"{data.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    identity.set_owner(draft, run_as)
    directory = _data_directory(draft, run_as)
    # `trust` is safe: nothing listens yet. The passwords go through standard input, which no process list shows.
    _run(
        [binaries / "initdb", "-D", directory, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"],
        draft,
        run_as,
    )
    roles = (
        f"ALTER ROLE postgres PASSWORD '{credentials.postgres_admin_password}'\n"
        f"CREATE ROLE {datastores.OWNER} NOLOGIN\n"
        f"CREATE ROLE fleet LOGIN PASSWORD '{credentials.postgres_password}'\n"
        f"CREATE DATABASE fleet OWNER {datastores.OWNER}\n"
    )
    _run([binaries / "postgres", "--single", "-D", directory, "postgres"], draft, run_as, stdin=roles)
    (draft / "pg_hba.conf").write_text(_ACCESS)
    draft.rename(data)


def _run(argv: list[str | Path], cwd: Path, run_as: Identity, *, stdin: str = "") -> None:
    command = identity.launch_command([str(part) for part in argv], identity=run_as, on_orphan=signal.SIGKILL)
    result = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=120)
    # In single-user mode a failed statement does not change the exit code.
    if result.returncode != 0 or "ERROR:" in result.stderr or "FATAL:" in result.stderr:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
        causes = [line.strip() for line in lines if _CAUSE.search(line)]
        reason = causes[:1] or lines[-3:]  # later errors usually result from the first
        raise errors.Unavailable(
            f"{Path(argv[0]).name} could not prepare {cwd}: {' '.join(reason)}",
            hint=f"Check the disk's free space and the folder's owner: {invocation.command('fleet_doctor')}",
        )


def _data_directory(data: Path, run_as: Identity) -> str:
    """The folder as Postgres can open it: `nobody` may not traverse the private path, but is started inside it."""
    return "/proc/self/cwd" if run_as == "nobody" else str(data)


def clear_stale_server(data: Path) -> None:
    """Stop a server that a killed supervisor left behind, and remove the pid file of one that is gone.

    Postgres itself only checks that *some* process has that pid. After a reboot it may belong to another program.
    """
    pid_file = data / "postmaster.pid"
    try:
        process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
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
    pid_file.unlink(missing_ok=True)
