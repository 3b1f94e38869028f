"""The fleet's home, the folder for all its files.

It is the folder given by FLEET_HOME, or `.fleet` beside manage.py in a checkout. Without a checkout it is `.fleet` in
the nearest folder, from the current one upwards, for which the user ran `fleet init`.

.fleet/
  settings.env  settings and other variables for the fleet's processes (settings_file.py)
  private/     mode 0700: credentials, data of the embedded services, sockets, locks and logs; or FLEET_PRIVATE
  scratch/     one folder per attempt, the working directory of a sortie without `cwd`; removed afterwards
  outbox/      one folder per attempt for its output files until they are stored; removed afterwards
  artifacts/   the stored output files of sorties, by digest
  repositories/  mirrors of the repositories of missions, each with its lock
  work/        one folder per sortie with a workspace: its copy of the repository
  commits/     one folder per sortie with a workspace: the git folder and index from which the engine commits

The workload of an attempt can access only its own scratch folder and its sortie's copy, and read the mirror
that the copy borrows its objects from (agents/confinement/view.py).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pwd
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

NAME = ".fleet"
# Errors of a path that cannot be a folder, regardless of the user's permissions.
UNUSABLE_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class Home:
    root: Path
    missing: bool = False  # there is no fleet: nothing may be written here, and only `fleet init` and help work
    private_override: Path | None = None

    @property
    def id(self) -> str:
        """Distinguishes this fleet's processes from those of another fleet on the same host."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:16]

    @property
    def private(self) -> Path:
        return self.private_override or self.root / "private"

    @property
    def hidden(self) -> tuple[Path, ...]:
        """The folders that are hidden from workloads, except for their own parts of them."""
        return (self.root, *filter(None, [self.private_override]))

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
    def repositories(self) -> Path:
        return self.root / "repositories"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def commits(self) -> Path:
        return self.root / "commits"

    def checkpoints(self, folder: str) -> Path:
        """The folder of checkpoints: `folder`, or `.flightline/checkpoints` beside `.fleet` or in another home."""
        return self._beside(folder, "checkpoints")

    def backups(self, folder: str) -> Path:
        """The folder of backups: `folder`, or `.flightline/backups` beside `.fleet` or in another home."""
        return self._beside(folder, "backups")

    def _beside(self, folder: str, name: str) -> Path:
        if folder:
            return Path(folder).expanduser().absolute()
        return (self.root.parent if self.root.name == NAME else self.root) / ".flightline" / name

    @property
    def logs(self) -> Path:
        return self.private / "logs"

    @property
    def run(self) -> Path:
        return self.private / "run"

    def create_folders(self) -> None:
        """Create the missing folders with mode 0700.

        Raises PermissionError if they belong to another user. That includes root, whose files the owner could not read.
        Raises ImproperlyConfigured if the path cannot be a folder.
        """
        try:
            with suppress(FileNotFoundError):
                if (owner := self.private.stat().st_uid) != os.geteuid():
                    raise PermissionError(errno.EPERM, f"it belongs to {_user_name(owner)}", str(self.private))
            shared = (self.repositories, self.work, self.commits)
            for folder in (
                self.root,
                self.private,
                self.scratch,
                self.outbox,
                self.artifacts,
                *shared,
                self.logs,
                self.run,
            ):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in UNUSABLE_PATH:
                raise
            raise ImproperlyConfigured(
                f"The fleet's folder {self.root} cannot be created ({error.strerror}). Set FLEET_HOME to another folder."
            ) from error


def locate(base: Path) -> Home:
    """Return this process's home, with the private folder that FLEET_PRIVATE names.

    `base` is the folder that contains the fleet's code.
    """
    private = os.environ.get("FLEET_PRIVATE", "").strip()
    private_override = Path(private).expanduser().absolute() if private else None
    return replace(_locate(base), private_override=private_override)


def _locate(base: Path) -> Home:
    if path := os.environ.get("FLEET_HOME", "").strip():
        return Home(Path(path).expanduser().absolute())
    if is_checkout(base):
        return Home(base / NAME)
    try:
        current = Path.cwd()
    except FileNotFoundError:  # it was removed
        return Home(base / NAME, missing=True)
    folders = created_folders()
    for folder in (current, *current.parents):
        if folder in folders and (folder / NAME).is_dir():
            return Home(folder / NAME)
    return Home(current / NAME, missing=True)


def is_checkout(base: Path) -> bool:
    """Whether `base` is a checkout or a copy of one, as in a container, and not an installed package."""
    return (base / "manage.py").is_file() and base.name not in ("site-packages", "dist-packages")


def created_folders() -> set[Path]:
    """The folders for which this user ran `fleet init`.

    They are recorded in the user's own folder. A `.fleet` alone is not trusted: a workload that may write to the folder,
    or the author of an archive that was extracted there, could have created it, with other settings.
    """
    if (record := _record()) is None:
        return set()
    try:
        return {Path(json.loads(line)) for line in record.read_text(encoding="utf-8").splitlines()}
    except FileNotFoundError:
        return set()
    except (ValueError, TypeError) as error:
        raise ImproperlyConfigured(
            f"{record} is damaged ({error}). Delete it, and run `fleet init` again in the folders of your fleets."
        ) from error


def record_folder(folder: Path) -> None:
    """Record that the user created a fleet in this folder. Raises ImproperlyConfigured if that is impossible."""
    record = _record()
    try:
        if record is None:
            raise FileNotFoundError(errno.ENOENT, "this user has no home folder")
        if folder not in created_folders():
            record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(str(folder)) + "\n")
    except OSError as error:
        raise ImproperlyConfigured(
            f"The new fleet cannot be recorded in {record or '~/.local/state'} ({error.strerror}). Set FLEET_HOME "
            f"instead, for each command: FLEET_HOME={folder / NAME}"
        ) from error


def _record() -> Path | None:
    try:
        state = os.environ.get("XDG_STATE_HOME", "").strip() or Path("~/.local/state").expanduser()
    except RuntimeError:  # no HOME, and no such user
        return None
    return Path(state) / "fleet" / "folders.jsonl"


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"the user with id {user}"
