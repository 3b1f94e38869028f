"""A Postgres and a Valkey for tests: real servers of the embedded provider in a folder of their own."""

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

from fleet import errors
from fleet.config import credentials, datastores
from fleet.config.home import Home
from fleet.services.providers import identity
from fleet.services.providers.embedded import Embedded
from fleet.services.supervision.service import Limits, Service


class Cluster:
    """Both servers, as children of this process. `durable=False` does not wait for the disk."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        self.home = Home(root)
        self.embedded = Embedded(self.home, credentials.ensure(self.home), durable=durable)
        self._services = {service.name: service for service in self.embedded.services(limits=Limits())}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in self._services:
            self._spawn(name)
        for name in self._services:
            self.wait(name)
        with self.administrator() as session:  # so that tests can make databases; in a fleet nobody does
            session.execute("ALTER ROLE fleet_owner CREATEDB")

    def administrator(self, *, database: str = "fleet") -> psycopg.Connection[tuple[Any, ...]]:
        """A session of the superuser's."""
        at = self.endpoints().postgres
        password = self.embedded.credentials.postgres_admin_password
        return psycopg.connect(
            host=at.host, port=at.port, user="postgres", password=password, dbname=database, autocommit=True
        )

    def stop(self) -> None:
        """Stop both, politely; then remove nothing: the folder is the caller's."""
        for name in reversed(list(self._processes)):
            self.resume(name)
            self._processes[name].send_signal(self._services[name].stop_signal)
        for name in reversed(list(self._processes)):
            self._reap(name)

    def kill(self, name: str) -> None:
        """kill -9, and nothing after it."""
        self._processes[name].kill()
        self._processes[name].wait()

    def restart(self, name: str) -> None:
        """Stop it if it runs, start it on the same port, wait until it answers."""
        process = self._processes[name]
        if process.poll() is None:
            process.send_signal(self._services[name].stop_signal)
            self._reap(name)
        deadline = time.monotonic() + 30
        while True:  # after a kill the old server's children may hold its memory for a moment
            self._spawn(name)
            try:
                return self.wait(name)
            except errors.Unavailable:
                if time.monotonic() > deadline:
                    raise

    def pause(self, name: str) -> None:
        """SIGSTOP, also to the processes that it has started: it keeps its connections and answers nobody."""
        self._send(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._send(name, signal.SIGCONT)

    def _send(self, name: str, number: signal.Signals) -> None:
        """A server that is halted starts no more processes, so it is the first to be told."""
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.pid(name))
            server.send_signal(number)
            for one in server.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(number)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def endpoints(self) -> datastores.Endpoints:
        return self.embedded.endpoints()

    def environment(self, *, database: str = "fleet", redis_index: int = 0) -> dict[str, str]:
        """What a subprocess needs to use this cluster as its `external` services."""
        where = self.endpoints()
        assert where.owner is not None
        return {
            "FLEET_HOME": str(self.home.root),
            "DATABASE_URL": url(where.postgres, database=database),
            "DATABASE_OWNER_URL": url(where.owner, database=database),
            "REDIS_URL": where.redis_url.rsplit("/", 1)[0] + f"/{redis_index}",
        }

    def wait(self, name: str, *, seconds: float = 30) -> None:
        """Wait until it answers; Unavailable as soon as it has ended."""
        asyncio.run(self._answer(self._services[name], seconds))

    async def _answer(self, service: Service, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return await service.probe()
            except errors.Unavailable:
                if self._processes[service.name].poll() is not None or time.monotonic() > deadline:
                    log = (self.home.logs / f"{service.name}.log").read_text()
                    raise errors.Unavailable(f"{service.name} did not start:\n{log[-2000:]}") from None
                await asyncio.sleep(0.02)

    def _spawn(self, name: str) -> None:
        service = self._services[name]
        command = service.command()
        with (self.home.logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                identity.launch_command(command.argv, identity=command.identity, on_orphan=service.stop_signal),
                cwd=command.cwd,
                env={**os.environ, **command.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C is for pytest, which then stops this
            )

    def _reap(self, name: str) -> None:
        try:
            self._processes[name].wait(60)
        except subprocess.TimeoutExpired:
            self._processes[name].kill()
            self._processes[name].wait()


def url(postgres: datastores.Postgres, *, database: str) -> str:
    options = "&".join(f"{name}={quote(value)}" for name, value in postgres.options.items())
    where = f"{postgres.user}:{quote(postgres.password)}@{postgres.host}:{postgres.port}/{database}"
    return f"postgresql://{where}?{options}"


def temporary(*, durable: bool) -> Cluster:
    return Cluster(Path(tempfile.mkdtemp(prefix="fleet-test-")), durable=durable)


def remove(cluster: Cluster) -> None:
    cluster.stop()
    shutil.rmtree(cluster.home.root, ignore_errors=True)
