"""Calls a container engine, Podman or Docker, through the commands that both have in common."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable

from fleet import errors, humanise
from fleet.config.programs import EngineName
from fleet.console import invocation

CALL_S = 60  # of a call that does not wait for anything
PULL_S = 900
MACHINE_S = 300  # to create or start the virtual machine in which Podman runs on macOS
STOP_S = 30  # until a container that does not stop is killed


class ContainerEngine:
    """`platform` is sys.platform: on macOS and Windows, Podman runs containers in a virtual machine of its own."""

    def __init__(self, name: EngineName, *, platform: str = sys.platform) -> None:
        self.name: EngineName = name
        self._platform = platform

    @property
    def is_native(self) -> bool:
        """Whether the processes of containers are processes of this host."""
        return self._platform.startswith("linux")

    def program(self) -> str:
        """Return the path of the engine's program; raises Unavailable if it is not installed."""
        if path := shutil.which(self.name):
            return path
        raise errors.Unavailable(
            f"FLEET_SERVICES={self.name}, but {self.name} was not found on this host.",
            hint=f"Install {self.name.title()}, or use the embedded services, which need no containers: "
            f"set FLEET_SERVICES=embedded, run `make install`, and start again.",
        )

    def ensure_running(self, say: Callable[[str], None]) -> None:
        """Return once the engine answers. Starts Podman's virtual machine where it needs one.

        Raises Unavailable, with the engine's own message, if it does not answer.
        """
        error = self._error()
        if error and self.name == "podman" and not self.is_native:
            self._start_machine(say)
            error = self._error()
        if error:
            start = "Start it (on Linux: systemctl start docker)" if self.name == "docker" else "Check `podman info`"
            raise errors.Unavailable(
                f"{self.name} does not answer: {error}",
                hint=f"{start}, or use the embedded services: FLEET_SERVICES=embedded "
                f"{invocation.command('fleet_up', '--detach')}",
            )

    def ensure_image(self, image: str, say: Callable[[str], None]) -> None:
        """Start the engine if necessary, and pull the image if it is missing; raises Unavailable if that fails."""
        if self._has(image):  # then the engine runs, too
            return
        self.ensure_running(say)
        if self._has(image):
            return
        say(f"pulling {image}")
        completed = self.call("pull", "--quiet", image, seconds=PULL_S)
        if completed.returncode != 0:
            raise errors.Unavailable(
                f"The image {image} could not be pulled: {_last_line(completed.stderr)}",
                hint="Check the network, or set POSTGRES_IMAGE or VALKEY_IMAGE to an image that this host has.",
            )

    def remove(self, container: str) -> None:
        """Stop a container gracefully and remove it. Does nothing if there is none of this name."""
        if self.call("container", "inspect", container).returncode != 0:
            return
        self.call("stop", "-t", str(STOP_S), container, seconds=STOP_S + CALL_S)
        self.call("rm", "--force", container, seconds=STOP_S + CALL_S)

    def pid(self, container: str) -> int | None:
        """Return the pid of the container's main process on this host; None if it runs in a virtual machine."""
        if not self.is_native:
            return None
        text = self.call("inspect", "--format={{.State.Pid}}", container).stdout.strip()
        return int(text) if text.isdigit() and int(text) > 0 else None

    def call(self, *arguments: str, seconds: float = CALL_S) -> subprocess.CompletedProcess[str]:
        """Run the engine's program; raises Unavailable if it does not end in time."""
        try:
            return subprocess.run(
                (self.program(), *arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise errors.Unavailable(
                f"`{self.name} {arguments[0]}` has not ended after {humanise.duration(seconds)}."
            ) from None

    def _has(self, image: str) -> bool:
        return self.call("image", "inspect", image).returncode == 0

    def _error(self) -> str:
        """Why the engine does not answer; empty if it does."""
        completed = self.call("info") if self.name == "podman" else self.call("version", "--format={{.Server.Version}}")
        return "" if completed.returncode == 0 else _last_line(completed.stderr)

    def _start_machine(self, say: Callable[[str], None]) -> None:
        listed = self.call("machine", "list", "--format=json")
        machines = json.loads(listed.stdout or "[]") if listed.returncode == 0 else []
        if not machines:
            say("creating Podman's virtual machine")
            self._machine("init")
        if not any(machine.get("Running") for machine in machines):
            say("starting Podman's virtual machine")
            self._machine("start")

    def _machine(self, action: str) -> None:
        completed = self.call("machine", action, seconds=MACHINE_S)
        if completed.returncode != 0:
            raise errors.Unavailable(
                f"`podman machine {action}` failed: {_last_line(completed.stderr)}",
                hint="Run it by hand, or use the embedded services: FLEET_SERVICES=embedded.",
            )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it printed no reason"])[-1]
