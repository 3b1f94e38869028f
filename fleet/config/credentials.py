"""The credentials that a fleet generates for itself, once, in `.fleet/private/credentials.json` (mode 0600).

No credential has a default and none is asked for: what is missing is made from the system's random source.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from fleet.config.home import Home

BYTES = 48  # of randomness in each, 64 characters; written in URL-safe base64, so any of them may stand in a URL or in SQL quotes


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    secret_key: str
    postgres_admin_password: str  # of the role that owns the embedded cluster; the fleet itself never uses it
    postgres_password: str
    redis_password: str
    flower_password: str
    metrics_token: str
    admin_password: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def ensure(home: Home) -> Credentials:
    """Read the credentials of this home, generating first those that it lacks (all, or what a newer version added).

    Two processes that come here at once get the same ones.
    """
    home.make()
    path = file(home)
    with _alone(home.private):
        known = _read(path)
        missing = {field.name for field in fields(Credentials)} - known.keys()
        if missing:
            known |= {name: secrets.token_urlsafe(BYTES) for name in sorted(missing)}
            _write(path, known)
    return Credentials(**{field.name: known[field.name] for field in fields(Credentials)})


def file(home: Home) -> Path:
    return home.private / "credentials.json"


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text())
        if not isinstance(known, dict) or not all(isinstance(value, str) and value for value in known.values()):
            raise ValueError("it is not a table of texts")
    except FileNotFoundError:
        return {}
    except ValueError as fault:
        raise ImproperlyConfigured(
            f"{path} cannot be read as credentials ({fault}). Restore it from a backup; "
            "new ones would not open the database that these belong to."
        ) from fault
    return known


def _write(path: Path, known: dict[str, str]) -> None:
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix="credentials-")  # mkstemp makes it 0600
    with os.fdopen(handle, "w") as target:
        json.dump(known, target, indent=1)
        target.flush()
        os.fsync(target.fileno())
    os.replace(draft, path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
