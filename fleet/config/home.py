"""Where a fleet keeps its files: one folder, `.fleet` beside manage.py unless FLEET_HOME names another.

.fleet/
  private/     0700; the credentials, the embedded services' data, sockets, locks and the processes' logs
  scratch/     one folder an attempt, where a driver without a `cwd` of its own works; removed afterwards
  outbox/      one folder an attempt, for copies of what it gives out until they are stored; removed afterwards
  artifacts/   what sorties gave out, by digest

The work of an attempt sees nothing of it but its own scratch folder (agents/drivers/sandbox.py).
"""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

# What stands there is no folder, or lies where there are none.
NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class Home:
    root: Path

    @property
    def id(self) -> str:
        """What tells this fleet's processes from those of another on the same host."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:16]

    @property
    def private(self) -> Path:
        return self.root / "private"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def logs(self) -> Path:
        return self.private / "logs"

    @property
    def run(self) -> Path:
        return self.private / "run"

    def make(self) -> None:
        """Make the folders that are not there yet, each with its mode.

        PermissionError where they are another user's. Root is refused too, though it may: what it would write there the
        owner could not read any more. ImproperlyConfigured where there can be no such folders.
        """
        try:
            with suppress(FileNotFoundError):
                if (owner := self.private.stat().st_uid) != os.geteuid():
                    raise PermissionError(errno.EPERM, f"it belongs to {_called(owner)}", str(self.private))
            for folder in (self.root, self.private, self.scratch, self.outbox, self.artifacts, self.logs, self.run):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            if fault.errno not in NO_PLACE:
                raise
            raise ImproperlyConfigured(
                f"The fleet's folder {self.root} cannot be made ({fault.strerror}). Name another with FLEET_HOME."
            ) from fault


def locate(base: Path) -> Home:
    """The home of the checkout at `base`, or the one that FLEET_HOME names."""
    named = os.environ.get("FLEET_HOME", "").strip()
    return Home(Path(named).expanduser().absolute() if named else base / ".fleet")


def _called(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"the user {user}"
