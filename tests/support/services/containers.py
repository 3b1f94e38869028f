"""Podman for the tests of containers: images without a registry, and `podman-compose` on the project's compose.yaml.

The images are built on a Debian from debootstrap: `base` with Python, `services` with Postgres, Redis and Caddy, and the
project's own from its Containerfile. They are kept in build/containers, apart from the images of the user.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.paths import CHECKOUT

FOLDER = CHECKOUT / "build" / "containers"
BASE, SERVICES, FLEET = "localhost/fleet-test-base", "localhost/fleet-test-services", "localhost/fleet-test"
COMPOSE = "podman-compose==1.6.0"
# Debian's own user of Postgres gets the id that the official images have.
SERVICES_FILE = f"""
FROM {BASE}
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \\
    && apt-get update && apt-get install -y --no-install-recommends postgresql redis-server caddy \\
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql \\
    && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql && install -d -m 1777 /data
"""


@cache
def unusable() -> str:
    """Why containers cannot be tried on this host; empty if they can."""
    if os.geteuid() != 0:
        return "debootstrap needs root"
    for program, package in (
        ("podman", "podman"),
        ("debootstrap", "debootstrap"),
        ("runc", "runc"),
        ("iptables", "iptables"),
    ):
        if shutil.which(program) is None:
            return f"{program} is not installed (on Debian: apt-get install {package})"
    result = podman("run", "--rm", "--network=none", "--rootfs", "/:O", "true", check=False)
    return f"podman cannot run a container here: {result.stderr.strip()[-300:]}" if result.returncode else ""


@cache
def environment() -> dict[str, str]:
    """The environment of podman: its own storage, and a configuration that works without systemd."""
    folder = FOLDER / "etc"
    folder.mkdir(parents=True, exist_ok=True)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1] % 2**31, 16_384)
    (folder / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{FOLDER}/storage"\nrunroot = "{FOLDER}/run"\n'
    )
    return {
        **os.environ,
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }


def podman(
    *arguments: str, check: bool = True, timeout: float = 120, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return _run(("podman", *arguments), check=check, timeout=timeout, env={**environment(), **(env or {})})


@cache
def build() -> None:
    """Build the three images once: each if it is missing, and the project's always, from the layers that are unchanged."""
    if podman("image", "exists", BASE, check=False).returncode:
        say(f"building {BASE} with debootstrap")
        folder = FOLDER / "debian"
        shutil.rmtree(folder, ignore_errors=True)
        include = "python3,python3-venv,ca-certificates,git"
        _run(("debootstrap", "--variant=minbase", f"--include={include}", "bookworm", str(folder)), timeout=1800)
        tar = subprocess.Popen(("tar", "-C", str(folder), "-c", "."), stdout=subprocess.PIPE)
        subprocess.run(("podman", "import", "-", BASE), stdin=tar.stdout, env=environment(), check=True, timeout=600)
        assert tar.wait() == 0
        shutil.rmtree(folder)
    if podman("image", "exists", SERVICES, check=False).returncode:
        say(f"building {SERVICES}")
        file = FOLDER / "Services"
        file.write_text(SERVICES_FILE)
        podman("build", "--network=host", "-t", SERVICES, "-f", str(file), str(FOLDER / "etc"), timeout=1800)
    say(f"building {FLEET} from the Containerfile")
    mounts = [part for mount in _pip_mounts() for part in ("--volume", mount)]
    podman(
        "build", "--network=host", "--layers", "--build-arg", f"BASE_IMAGE={BASE}", "-t", FLEET, "-f", "Containerfile",
        *mounts, str(CHECKOUT), timeout=1800,
    )  # fmt: skip


def _pip_mounts() -> list[str]:
    """The variables and certificates with which pip in the build uses the same index as pip on this host."""
    names = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name[:4] == "PIP_"
    }
    configuration = FOLDER / "etc" / "pip.conf"
    configuration.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in names.items()))
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    return [
        f"{configuration}:/etc/pip.conf:ro",
        *([f"{certificates}:{certificates}:ro"] if Path(certificates).exists() else []),
    ]


class Project:
    """One `podman-compose up` of the project's compose.yaml, under a name and on a port of its own."""

    def __init__(self, *, name: str, port: int, secrets: Mapping[str, str]) -> None:
        self.name, self.port = name, port
        self.environment = {
            **secrets,
            "FLEET_IMAGE": FLEET,
            "POSTGRES_IMAGE": SERVICES,
            "VALKEY_IMAGE": SERVICES,
            "PROXY_IMAGE": SERVICES,
            "FLEET_PUBLISH": f"127.0.0.1:{port}",
            "FLEET_WAIT_S": "600",  # the host may be busy
        }

    def compose(
        self, *arguments: str, check: bool = True, timeout: float = 300, without: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        env = {**environment(), **self.environment}
        for variable in without:
            env.pop(variable)
        return _run((*_program(), "-p", self.name, *arguments), check=check, timeout=timeout, env=env)

    def container(self, service: str) -> str:
        """The name of the first container of a service, running or not."""
        return f"{self.name}_{service}_1"

    def execute(
        self, service: str, *command: str, check: bool = True, timeout: float = 120, options: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the first container of a service."""
        return podman("exec", *options, self.container(service), *command, check=check, timeout=timeout)

    def manage(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return self.execute("web", "./manage.py", *arguments, check=check, timeout=timeout)

    def inspect(self, service: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(podman("inspect", self.container(service)).stdout)[0]
        return document

    def remove_replicas(self, service: str) -> None:
        """Remove all containers of a service but the first, which `podman-compose down` does not know."""
        for name in podman("ps", "-a", "--format", "{{.Names}}").stdout.split():
            if name.startswith(f"{self.name}_{service}_") and not name.endswith("_1"):
                podman("rm", "-f", "-t", "40", name)

    def postgres(self, statement: str) -> str:
        """The rows of a query, as its superuser."""
        password = f"PGPASSWORD={self.environment['POSTGRES_OWNER_PASSWORD']}"
        psql = ("psql", "-h", "127.0.0.1", "-U", "postgres", "-At", "fleet", "-c", statement)
        return self.execute("postgres", *psql, options=("--env", password)).stdout

    def crash(self, service: str) -> None:
        """Kill the main process of a service's container from outside (SIGKILL), as a crash would end it."""
        os.kill(self.pid(service), 9)

    def pid(self, service: str) -> int:
        """The pid of the main process of a service's container; 0 while it is not running."""
        return int(self.inspect(service)["State"]["Pid"])

    def log(self, service: str) -> str:
        result = podman("logs", self.container(service), check=False)
        return result.stdout + result.stderr

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def leftovers(self) -> list[str]:
        """The containers, volumes and networks that still carry the project's name."""
        names = [
            *podman("ps", "-a", "--format", "{{.Names}}").stdout.split(),
            *podman("volume", "ls", "--format", "{{.Name}}").stdout.split(),
            *podman("network", "ls", "--format", "{{.Name}}").stdout.split(),
        ]
        return [name for name in names if name.startswith(f"{self.name}_")]


def _program() -> tuple[str, ...]:
    if program := shutil.which("podman-compose"):
        return (program,)
    return (str(Path(sys.executable).parent / "uv"), "tool", "run", "--quiet", "--from", COMPOSE, "podman-compose")


def _run(
    argv: Sequence[str], *, check: bool = True, timeout: float = 120, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        argv,
        cwd=CHECKOUT,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if check and result.returncode:
        raise AssertionError(
            f"{' '.join(argv)} ended with {result.returncode}:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        )
    return result


def say(line: str) -> None:
    """Print a line to stderr."""
    sys.stderr.write(f"{line}\n")
