"""The credentials that a fleet generates for itself, once, in `.fleet/private/credentials.json` (mode 0600).

Credentials have no defaults and need no input: missing ones are generated from the system's random source.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from fleet.config.home import Home

BYTES = 48  # of randomness: 64 characters of URL-safe base64, which need no escaping in a URL or in quoted SQL


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    secret_key: str
    postgres_admin_password: str  # of the embedded cluster's superuser, for migrations only
    postgres_password: str
    redis_password: str
    flower_password: str
    metrics_token: str
    admin_password: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def ensure(home: Home, *, overrides: Mapping[str, str] | None = None) -> Credentials:
    """Read the credentials of this home, after generating any that are missing, as after an upgrade.

    `overrides` take precedence over the file, and are not written to it. Concurrent callers get the same credentials.
    If there is no fleet, nothing is read or written.
    """
    if home.missing:
        return Credentials(**{field.name: _generate() for field in fields(Credentials)})
    home.create_folders()
    path = file(home)
    with _locked(home.private):
        values = _read(path)
        missing = {field.name for field in fields(Credentials)} - values.keys()
        if missing:
            values |= {name: _generate() for name in sorted(missing)}
            _write(path, values)
    values |= {name: value for name, value in (overrides or {}).items() if value}
    return Credentials(**{field.name: values[field.name] for field in fields(Credentials)})


def file(home: Home) -> Path:
    return home.private / "credentials.json"


def _generate() -> str:
    return secrets.token_urlsafe(BYTES)


def _read(path: Path) -> dict[str, str]:
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict) or not all(isinstance(value, str) and value for value in values.values()):
            raise ValueError("expected a JSON object of non-empty strings")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{path} is not a valid credentials file ({error}). Restore it from a backup: "
            "newly generated credentials would not open the existing database."
        ) from error
    return values


def _write(path: Path, values: dict[str, str]) -> None:
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix="credentials-")  # mkstemp creates it with mode 0600
    with os.fdopen(handle, "w") as target:
        json.dump(values, target, indent=1)
        target.flush()
        os.fsync(target.fileno())
    os.replace(draft, path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
