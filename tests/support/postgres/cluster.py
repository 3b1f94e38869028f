"""A Postgres and a Valkey for tests: real servers of the embedded provider in a private folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from fleet import errors
from fleet.config import credentials, datastores
from fleet.config.home import Home
from fleet.services.providers import identity
from fleet.services.providers.embedded import Embedded
from fleet.services.supervision.service import AlertLimits, Service
from tests.support.postgres import templates


class Cluster:
    """Both servers, as child processes. Without `durable`, commits do not wait for the disk.

    With `sockets` they listen on Unix sockets instead of ports.
    """

    def __init__(self, root: Path, *, durable: bool, sockets: bool = False) -> None:
        self.home = Home(root)
        self.embedded = Embedded(self.home, credentials.ensure(self.home), durable=durable, sockets=sockets)
        self._services = {service.name: service for service in self.embedded.services(limits=AlertLimits())}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in self._services:
            self._spawn(name)
        for name in self._services:
            self.wait(name)
        with (
            self.administrator() as session
        ):  # unlike a fleet, tests create and drop databases, even during an autovacuum
            session.execute("ALTER ROLE fleet_owner CREATEDB")
            session.execute("GRANT pg_signal_backend TO fleet_owner")
            session.execute("SET scram_iterations = 1")  # the default costs each connection 2 ms of CPU
            known = self.embedded.credentials
            for role, password in (("fleet", known.postgres_password), ("postgres", known.postgres_admin_password)):
                session.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), password))

    def administrator(self, *, database: str = "fleet") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection as the superuser."""
        postgres = self.endpoints().postgres
        password = self.embedded.credentials.postgres_admin_password
        return psycopg.connect(
            host=postgres.host, port=postgres.port, user="postgres", password=password, dbname=database, autocommit=True
        )

    def stop(self) -> None:
        """Stop both servers in an orderly way. Their folder stays."""
        for name in reversed(list(self._processes)):
            self.resume(name)
            self._processes[name].send_signal(self._services[name].stop_signal)
        for name in reversed(list(self._processes)):
            self._reap(name)

    def kill(self, name: str) -> None:
        """Kill a server (SIGKILL), and do not restart it."""
        self._processes[name].kill()
        self._processes[name].wait()

    def restart(self, name: str) -> None:
        """Stop a server if it is running, start it on the same port, and wait until it answers."""
        process = self._processes[name]
        if process.poll() is None:
            process.send_signal(self._services[name].stop_signal)
            self._reap(name)
        deadline = time.monotonic() + 30
        while True:  # after a kill, the old server's children may hold its shared memory for a moment
            self._spawn(name)
            try:
                return self.wait(name)
            except errors.Unavailable:
                if time.monotonic() > deadline:
                    raise

    def pause(self, name: str) -> None:
        """Stop a server and its children (SIGSTOP): it keeps its connections but does not respond."""
        self._send(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._send(name, signal.SIGCONT)

    def _send(self, name: str, number: signal.Signals) -> None:
        """Signal a server and its children. The server is first, because a stopped server starts no more children."""
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.pid(name))
            server.send_signal(number)
            for child in server.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(number)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def endpoints(self) -> datastores.Endpoints:
        return self.embedded.endpoints()

    def embedded_environment(self) -> dict[str, str]:
        """The environment with which a subprocess uses this cluster as the `embedded` services of its home."""
        sockets = "yes" if self.embedded.sockets else "no"
        return {"FLEET_HOME": str(self.home.root), "FLEET_EMBEDDED_SOCKETS": sockets}

    def environment(self, *, database: str = "fleet", redis_index: int = 0) -> dict[str, str]:
        """The environment with which a subprocess uses this cluster as its `external` services."""
        endpoints = self.endpoints()
        assert endpoints.owner is not None
        return {
            "FLEET_HOME": str(self.home.root),
            "DATABASE_URL": url(endpoints.postgres, database=database),
            "DATABASE_OWNER_URL": url(endpoints.owner, database=database),
            "REDIS_URL": endpoints.redis_url.rsplit("/", 1)[0] + f"/{redis_index}",
        }

    def wait(self, name: str, *, seconds: float = 30) -> None:
        """Wait until a server answers; Unavailable if it ends or does not answer in time."""
        asyncio.run(self._wait_for_answer(self._services[name], seconds))

    async def _wait_for_answer(self, service: Service, seconds: float) -> None:
        assert service.probe is not None
        deadline = time.monotonic() + seconds
        while True:
            try:
                await service.probe()
                return
            except errors.Unavailable:
                if self._processes[service.name].poll() is not None or time.monotonic() > deadline:
                    log = (self.home.logs / f"{service.name}.log").read_text()
                    raise errors.Unavailable(f"{service.name} did not start:\n{log[-2000:]}") from None
                await asyncio.sleep(0.02)

    def _spawn(self, name: str) -> None:
        service = self._services[name]
        assert service.command is not None
        command = service.command()
        with (self.home.logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                identity.launch_command(command.argv, identity=command.identity, on_orphan=service.stop_signal),
                cwd=command.cwd,
                env={**os.environ, **command.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops the server
            )

    def _reap(self, name: str) -> None:
        try:
            self._processes[name].wait(60)
        except subprocess.TimeoutExpired:
            self._processes[name].kill()
            self._processes[name].wait()


def url(postgres: datastores.Postgres, *, database: str) -> str:
    options = "&".join(f"{name}={quote(value)}" for name, value in postgres.options.items())
    authority = f"{postgres.user}:{quote(postgres.password)}@{postgres.host}:{postgres.port}/{database}"
    return f"postgresql://{authority}?{options}"


def temporary(*, durable: bool, sockets: bool = False) -> Cluster:
    home = Home(Path(tempfile.mkdtemp(prefix="fleet-test-")))
    templates.copy(home)
    return Cluster(home.root, durable=durable, sockets=sockets)


def remove(cluster: Cluster) -> None:
    cluster.stop()
    shutil.rmtree(cluster.home.root, ignore_errors=True)
