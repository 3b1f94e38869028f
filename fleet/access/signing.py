"""The key that signs access and refresh tokens: made by the web process, read by it alone.

It is not among the credentials, which every process of the fleet reads. FLEET_JWT_KEY names one where several web processes
on several hosts share their tokens; `fleet_up` hands it on to the web process alone. What that holds off: docs/security.md.
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
        with contextlib.suppress(FileExistsError):  # another process was first, and its key is the key
            os.link(draft, path)  # whole, or not at all
        draft.unlink()
    return str(path.read_text())
