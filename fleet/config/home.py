"""The fleet's home, the folder for all its files: `.fleet` beside manage.py, or the folder given by FLEET_HOME.

.fleet/
  private/     mode 0700: credentials, data of the embedded services, sockets, locks and logs
  scratch/     one folder per attempt, the working directory of a sortie without `cwd`; removed afterwards
  outbox/      one folder per attempt for its output files until they are stored; removed afterwards
  artifacts/   the stored output files of sorties, by digest

The work of an attempt can access only its own scratch folder (agents/drivers/sandbox.py).
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

# Errors of a path that cannot be a folder, whatever the user's permissions.
UNUSABLE_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class Home:
    root: Path

    @property
    def id(self) -> str:
        """Distinguishes this fleet's processes from those of another fleet on the same host."""
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

    def checkpoints(self, folder: str) -> Path:
        """The folder of checkpoints: `folder`, or `.flightline/checkpoints` beside `.fleet` or in another home."""
        if folder:
            return Path(folder).expanduser().absolute()
        return (self.root.parent if self.root.name == ".fleet" else self.root) / ".flightline" / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.private / "logs"

    @property
    def run(self) -> Path:
        return self.private / "run"

    def make(self) -> None:
        """Create the missing folders with mode 0700.

        Raises PermissionError if they belong to another user. That includes root, whose files the owner could not read.
        Raises ImproperlyConfigured if the path cannot be a folder.
        """
        try:
            with suppress(FileNotFoundError):
                if (owner := self.private.stat().st_uid) != os.geteuid():
                    raise PermissionError(errno.EPERM, f"it belongs to {_user_name(owner)}", str(self.private))
            for folder in (self.root, self.private, self.scratch, self.outbox, self.artifacts, self.logs, self.run):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            if fault.errno not in UNUSABLE_PATH:
                raise
            raise ImproperlyConfigured(
                f"The fleet's folder {self.root} cannot be created ({fault.strerror}). Set FLEET_HOME to another folder."
            ) from fault


def locate(base: Path) -> Home:
    """Return the home that FLEET_HOME names, or else that of the checkout at `base`."""
    path = os.environ.get("FLEET_HOME", "").strip()
    return Home(Path(path).expanduser().absolute() if path else base / ".fleet")


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"the user with id {user}"
