"""Servers in containers for tests: on a scripted engine (scripted_engine.py), or on the real podman of this host."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from fleet.config import credentials, datastores, programs
from fleet.config.home import Home
from fleet.config.programs import EngineName
from fleet.services.providers.containers import Containers, Images
from fleet.services.providers.engine import ContainerEngine
from fleet.services.supervision.service import AlertLimits
from tests.support.postgres import templates
from tests.support.postgres.cluster import Cluster

IMAGES = Images(postgres="localhost/postgres:1", valkey="localhost/valkey:1")


class ScriptedEngine:
    """An engine on PATH, in a folder of its own."""

    def __init__(self, folder: Path, name: EngineName) -> None:
        self.state = folder / "engine"
        self.state.mkdir(parents=True)
        self.state.chmod(0o755)
        (self.state / "images").write_text(f"{IMAGES.postgres}\n{IMAGES.valkey}\n")
        programs_folder = folder / "bin"
        programs_folder.mkdir()
        program = programs_folder / name
        script = Path(__file__).with_name("scripted_engine.py")
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{script}" "$0" "$@"\n')
        program.chmod(0o755)
        templates.write_initdb(programs_folder / "initdb")
        self.environment = {
            "PATH": f"{programs_folder}:{programs.postgres()}:{programs.valkey().parent}:/usr/bin:/bin",
            "SCRIPTED_ENGINE": str(self.state),
        }

    def calls(self) -> list[list[str]]:
        """The arguments of each call so far, without the program's name."""
        file = self.state / "calls"
        return [json.loads(line)[1:] for line in file.read_text().splitlines()] if file.exists() else []

    def write(self, name: str, text: str) -> None:
        (self.state / name).write_text(text)

    def running(self) -> list[str]:
        folder = self.state / "containers"
        return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


class ContainerCluster(Cluster):
    """Postgres and Valkey in containers, each run by a child of this process."""

    def __init__(self, root: Path, *, engine: EngineName, images: Images = IMAGES) -> None:
        self.home = Home(root)
        self.engine = ContainerEngine(engine)
        self.containers = Containers(
            self.home, credentials.ensure(self.home), engine=self.engine, images=images, say=lambda line: None
        )
        self._services = {service.name: service for service in self.containers.services(limits=AlertLimits())}
        self._processes = {}

    def start(self) -> None:
        for name in self._services:
            self._spawn(name)
        for name in self._services:
            self.wait(name, seconds=60)

    def kill(self, name: str) -> None:
        """Kill the main process of a container (SIGKILL), and wait until the engine's program has ended."""
        pid = self.engine.pid(self.containers.container(name))
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self._processes[name].wait(30)

    def endpoints(self) -> datastores.Endpoints:
        return self.containers.endpoints()

    def remove_containers(self) -> None:
        """Stop both servers, and remove their containers and the volume."""
        self.stop()
        for name in self._services:
            self.engine.remove(self.containers.container(name))
        self.engine.call("volume", "rm", "--force", self.containers.container("postgres"))
