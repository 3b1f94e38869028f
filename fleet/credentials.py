"""The credentials that a fleet generates for itself, once, in `.fleet/private/credentials.json` (mode 0600).

No credential has a default and none is asked for: what is missing is made from the system's random source.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass, fields

from django.core.exceptions import ImproperlyConfigured

from fleet.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    secret_key: str
    postgres_password: str
    redis_password: str
    flower_password: str
    metrics_token: str
    admin_password: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def ensure(home: Home) -> Credentials:
    """Read the credentials of this home, generating them first where there are none.

    Two processes that come here at once get the same ones: the first to link its file wins.
    """
    path = home.private / "credentials.json"
    home.make()
    if not path.exists():
        made = Credentials(**{field.name: secrets.token_urlsafe(32) for field in fields(Credentials)})
        handle, draft = tempfile.mkstemp(dir=home.private, prefix="credentials-")  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(asdict(made), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        except FileExistsError:
            pass  # another process got there first; its credentials are everybody's
        finally:
            os.unlink(draft)
    try:
        return Credentials(**json.loads(path.read_text()))
    except (ValueError, TypeError) as fault:
        raise ImproperlyConfigured(
            f"{path} cannot be read as credentials ({fault}). Restore it from a backup; "
            "a new one would not open the database that it belongs to."
        ) from fault
