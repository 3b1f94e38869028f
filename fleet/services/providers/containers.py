"""Postgres and Valkey as containers of Podman or Docker, each run in the foreground by a child of the supervisor.

So the supervisor watches, restarts and stops them like the embedded servers, and their output is in the same logs. The
data is in the volume `fleet-ID-postgres`, where ID is the id of the home. Passwords are passed in the environment.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from fleet.config import datastores, ports
from fleet.config.credentials import Credentials
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.config.programs import EngineName
from fleet.services.providers import probes
from fleet.services.providers.engine import STOP_S, ContainerEngine
from fleet.services.supervision.service import AlertLimits, Command, Service

MOUNT_POINT = "/var/lib/postgresql"  # where the volume is mounted
SHM = "256m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    postgres: str
    valkey: str


class Containers:
    def __init__(
        self,
        home: Home,
        credentials: Credentials,
        *,
        engine: ContainerEngine,
        images: Images,
        say: Callable[[str], None],
    ) -> None:
        self.home = home
        self._credentials = credentials
        self._engine = engine
        self._images = images
        self._ports = ports.Ports(home)
        self._say = say

    @property
    def name(self) -> EngineName:
        return self._engine.name

    def services(self, *, limits: AlertLimits) -> tuple[Service, ...]:
        return (
            Service(
                name="postgres",
                command=self._postgres,
                probe=lambda: probes.postgres(self.endpoints().postgres),
                stop_signal=signal.SIGINT,  # Postgres's fast shutdown; the engine's program passes it on
                grace_s=STOP_S,
                limits=limits,
                main_pid=lambda: self._engine.pid(self.container("postgres")),
                clean_up=lambda: self._engine.remove(self.container("postgres")),
            ),
            Service(
                name="valkey",
                command=self._valkey,
                probe=lambda: probes.redis_server(self.endpoints().redis_url),
                limits=limits,
                main_pid=lambda: self._engine.pid(self.container("valkey")),
                clean_up=lambda: self._engine.remove(self.container("valkey")),
            ),
        )

    def endpoints(self) -> datastores.Endpoints:
        """Return the current addresses; the ports are known once the first start has been prepared."""
        return datastores.resolve(Environment({"FLEET_SERVICES": self.name}), self.home, self._credentials)

    def container(self, service: str) -> str:
        """The name of the service's container, and of its volume."""
        return f"fleet-{self.home.id}-{service}"

    def _postgres(self) -> Command:
        command = self._run(
            "postgres",
            image=self._images.postgres,
            port=5432,
            options=(
                "--user=postgres",
                "--stop-signal=SIGINT",
                f"--shm-size={SHM}",
                f"--volume={self.container('postgres')}:{MOUNT_POINT}",
                f"--env=PGDATA={MOUNT_POINT}/fleet",
            ),
            secrets={
                "POSTGRES_OWNER_PASSWORD": self._credentials.postgres_admin_password,
                "POSTGRES_PASSWORD": self._credentials.postgres_password,
            },
        )
        datastores.engine_record(self.home).write_text(f"{self.name}\n")
        return command

    def _valkey(self) -> Command:
        return self._run(
            "valkey",
            image=self._images.valkey,
            port=6379,
            options=("--user=999",),
            secrets={"REDIS_PASSWORD": self._credentials.redis_password},
        )

    def _run(
        self, service: str, *, image: str, port: int, options: tuple[str, ...], secrets: dict[str, str]
    ) -> Command:
        """Prepare the engine, remove what an earlier supervisor left, and return the command that runs the container."""

        def say(line: str) -> None:
            self._say(f"{service}: {line}")

        self._engine.ensure_image(image, say)
        self._engine.remove(self.container(service))
        script = resources.files("fleet.services.providers").joinpath("scripts", f"{service}.sh").read_text()
        return Command(
            argv=(
                self._engine.program(),
                "run",
                "--rm",
                f"--name={self.container(service)}",
                "--label=org.fleet.home=" + self.home.id,
                f"--publish=127.0.0.1:{self._ports.choose(service)}:{port}",
                "--read-only",
                "--tmpfs=/tmp",
                "--cap-drop=ALL",
                "--security-opt=no-new-privileges",
                *options,
                *(f"--env={name}" for name in secrets),  # the value comes from the environment of the engine's program
                "--entrypoint=sh",
                image,
                "-c",
                script,
                f"{service}.sh",
            ),
            cwd=self.home.private,
            env=secrets,
        )
