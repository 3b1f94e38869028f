"""The key that signs access and refresh tokens. The web process creates it, and only the web process reads it.

It is kept out of the credentials file, which every process of the fleet reads. Set FLEET_JWT_KEY if web processes on
several hosts share tokens; `fleet_up` passes it to the web process only. What this protects against: docs/security.md.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets

from django.conf import settings
from rest_framework_simplejwt.backends import TokenBackend

ALGORITHM = "HS256"
AUDIENCE = "fleet-api"
BYTES = 64


@functools.cache
def backend() -> TokenBackend:
    return TokenBackend(ALGORITHM, _key(), "", audience=AUDIENCE, issuer="fleet")


def _key() -> str:
    if settings.FLEET_JWT_KEY:
        return str(settings.FLEET_JWT_KEY)
    path = settings.FLEET_HOME.private / "jwt.key"
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(BYTES))
        with contextlib.suppress(FileExistsError):  # another process was first, and its key is used
            os.link(draft, path)  # atomic: a reader never sees half a key
        draft.unlink()
    return str(path.read_text())
