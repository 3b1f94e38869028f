"""The copy of the repository that a sortie works in: `.fleet/work/SORTIE`, the same path for every attempt.

It is a shared clone: it borrows the mirror's objects and has its own configuration, hooks, index and refs, because
linked worktrees would share those. The engine trusts nothing in it: its own git folder and index are elsewhere
(`.fleet/commits/SORTIE`), where no attempt can see them. A lock there admits one attempt at a time, and never an older
one after a newer one: an agent that was suspended for longer than its lease may wake up.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from django.conf import settings

from agents.shim import beneath
from fleet import errors, ids
from missions import hidden_folders, removal
from missions.workspaces.repositories import git, local_repositories, mirrors

INCLUDE = ".worktreeinclude"
READER_S = 3_600  # a reader's folder that is older was left behind by a killed process
READER, REMOVED = "reader-", "removed-"  # name prefixes of folders that belong to no sortie
TICK_S = 0.012
_LIST_IGNORED = r"""git ls-files -z --others --ignored "$1"
printf '//\0'
git ls-files -z --others --ignored --exclude-standard"""
LOCK_S = 60.0  # how long to wait for the git of an earlier attempt, whose agent was killed


class Superseded(errors.Conflict):
    """A later attempt works on the copy of this sortie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The copy of one sortie, and the engine's folder for it."""

    path: Path
    engine: Path
    mirror: Path

    @property
    def git_folder(self) -> Path:
        return self.engine / "git"

    @property
    def run(self) -> Path:
        """The part of the engine's folder that git writes to while it reads the copy. Follow no symbolic link in it."""
        return self.engine / "run"

    @property
    def index(self) -> Path:
        return self.run / "index"

    @property
    def base(self) -> str:
        """The commit that it was made from."""
        return (self.engine / "base").read_text()

    @property
    def exists(self) -> bool:
        """Whether it was built completely."""
        return self.path.is_dir() and not self.path.is_symlink() and stat.S_ISREG(_mode(self.index))

    @property
    def env(self) -> dict[str, str]:
        """The environment in which the engine's git works on the copy."""
        return {**self.read_env, "GIT_WORK_TREE": str(self.path)}

    @property
    def read_env(self) -> dict[str, str]:
        """The environment in which git reads the engine's objects and never looks at the copy."""
        return {"GIT_DIR": str(self.git_folder), "GIT_INDEX_FILE": str(self.index)}


def of(*, sortie: UUID, mirror: Path) -> Copy:
    """The copy of a sortie. It need not exist."""
    name = ids.encode(ids.SORTIE, sortie)
    return Copy(path=settings.FLEET_HOME.work / name, engine=settings.FLEET_HOME.commits / name, mirror=mirror)


@contextmanager
def lock(copy: Copy, *, attempt: int) -> Iterator[int]:
    """Let no other attempt work on the copy. Yields a descriptor: processes that inherit it keep the lock.

    Removes git's lock files in the engine's folder, which must be leftovers. Raises Superseded if a later attempt has
    had the lock; Unavailable after an OSError, for example on a full disk.
    """
    try:
        copy.engine.mkdir(mode=0o700, parents=True, exist_ok=True)
        with mirrors.lock(copy.engine / "lock", within_s=LOCK_S) as descriptor:
            if int(os.pread(descriptor, 20, 0) or b"0") > attempt:
                raise Superseded
            os.pwrite(descriptor, b"%d\n" % attempt, 0)
            copy.index.with_suffix(".lock").unlink(missing_ok=True)
            yield descriptor
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        raise errors.Unavailable(f"The copy of the repository cannot be used. {reason}.") from error


def make(copy: Copy, *, branch: str, tip: str, author: str, tree: str = "", descriptor: int | None = None) -> None:
    """Rebuild the copy at the commit `tip`, with `branch` checked out. No process of an earlier attempt may be running.

    `tree`: the files to check out instead, for example with conflict markers; the agent's git shows how they differ
    from `tip`. `descriptor`: of the copy's lock.
    """

    def run(*arguments: str, accept: tuple[int, ...] = (0,)) -> None:
        git.run(*arguments, at=copy.path, accept=accept, pass_fds=() if descriptor is None else (descriptor,))

    copy.engine.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy.index.unlink(missing_ok=True)  # until the index is written, the copy counts as missing
    for folder in (copy.run, copy.git_folder, copy.path):
        _remove(folder)
        folder.mkdir(mode=0o700, parents=True)
    init(copy.path / ".git", copy.mirror, author=author, head=branch, tip=tip)
    init(copy.git_folder, copy.mirror, author="Fleet", head=branch, tip=tip)
    run("read-tree", "--reset", "-u", tree or tip)
    (copy.engine / "base").write_text(tip)
    new = copy.engine / "new-index"
    shutil.copyfile(copy.path / ".git" / "index", new)
    if tree:
        run("read-tree", tip)
        run("update-index", "-q", "--refresh", accept=(0, 1))
    _record_time(copy.git_folder)
    new.rename(copy.index)


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def _record_time(folder: Path) -> None:
    """Record when the copy was made, and the next full second, as the times of two files; see `commits`.

    Then wait, so that all changes of an attempt have later times: the clocks of file systems advance every 10 ms or
    less.
    """
    (folder / "made").write_bytes(b"")
    second = (folder / "made").stat().st_mtime_ns // 10**9 + 1
    (folder / "second").write_bytes(b"")
    os.utime(folder / "second", ns=(second * 10**9, second * 10**9))
    time.sleep(TICK_S)


@contextmanager
def reader(copy: Copy) -> Iterator[Copy]:
    """The same copy with a separate engine folder, to read what an attempt is working on without disturbing it.

    Raises NotFound if the copy does not exist, or is being built.
    """
    settings.FLEET_HOME.commits.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=READER, dir=settings.FLEET_HOME.commits) as folder:
        view = Copy(path=copy.path, engine=Path(folder), mirror=copy.mirror)
        try:
            (view.engine / "base").write_text(copy.base)
            init(view.git_folder, copy.mirror, author="Fleet", head="fleet/read", tip=copy.base)
            view.run.mkdir(mode=0o700)
            for name in ("made", "second"):  # with their times, which show which files git must read again
                shutil.copy2(copy.git_folder / name, view.git_folder / name)
            _copy_index(copy, view.index)
        except FileNotFoundError as error:
            raise errors.NotFound("The copy of this sortie is still being built.", hint="Try again.") from error
        yield view


def _remove(folder: Path) -> None:
    """Remove a folder, or what an attempt has put in its place. Raises Unavailable if it cannot be removed."""
    if folder.is_dir() and not folder.is_symlink():
        removal.remove(folder)
    else:
        folder.unlink(missing_ok=True)
    if os.path.lexists(folder):
        raise errors.Unavailable(f"{folder} cannot be removed.", hint="Remove it as root, then retry the sortie.")


def renew_repository(copy: Copy, *, branch: str, commit: str) -> None:
    """Replace the copy's own repository, which the agent could change, with a new one that has `branch` at `commit`.

    Commands that verify a tree then run without the agent's configuration and hooks. The engine's index must have the
    tree of `commit`. The new one is built outside the copy and then moved: another attempt may have got a descriptor of
    the copy (SCM_RIGHTS), and could lead the engine to other folders with links.
    """
    folder = copy.path / ".git"
    with TemporaryDirectory(prefix=READER, dir=copy.path.parent) as outside:  # on the same disk
        new = Path(outside) / "git"
        init(new, copy.mirror, author="Fleet", head=branch, tip=commit)
        _copy_index(copy, new / "index")
        _remove(folder)
        new.rename(folder)


def _copy_index(copy: Copy, target: Path) -> None:
    """Copy the engine's index, with its times, to a new file. Raises Unavailable if it is not a regular file."""
    top = os.open(copy.engine, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        source = beneath.open_plain(top, "run/index")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise errors.Unavailable(f"The index {copy.index} is not a file.", hint="Retry the sortie.") from error
    finally:
        os.close(top)
    with open(source, "rb") as reader, open(target, "xb") as writer:
        shutil.copyfileobj(reader, writer, 1_000_000)
        status = os.fstat(source)
        writer.flush()
        os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def include_ignored(copy: Copy, *, repository: Path, base: str) -> int:
    """Copy the ignored files of the user's checkout that the `.worktreeinclude` of `base` names; returns how many.

    The branch's own `.worktreeinclude` is not used, because an agent may have changed it. Existing files are not
    replaced, symbolic links are neither copied nor followed, and files of the fleet are left out.
    """
    patterns = git.execute("cat-file", "blob", f"{base}:{INCLUDE}", at=copy.mirror)
    if patterns.returncode or (local := local_repositories.find(str(repository))).is_bare:
        return 0
    file = copy.engine / "include"
    file.write_bytes(patterns.stdout)
    names = _ignored(local, file)
    hidden = [path.resolve() for path in hidden_folders.paths()]
    count = 0
    top = os.open(copy.path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    checkout = beneath.open_path(local.path, folder=True)
    try:
        real = Path(os.readlink(f"/proc/self/fd/{checkout}"))
        for name in sorted(names):
            if not any((real / os.fsdecode(name)).is_relative_to(folder) for folder in hidden):
                count += _copy_file(checkout, top, name)
    finally:
        os.close(checkout)
        os.close(top)
    return count


def _copy_file(checkout: int, top: int, name: bytes) -> bool:
    """Copy the file `name` from one folder to another. Returns False if the file or its target cannot be used.

    Workloads may be changing both folders. Paths with a symbolic link are not used: git does not list such files.
    """
    try:
        source = beneath.open_plain(checkout, os.fsdecode(name))
    except OSError:
        return False
    with open(source, "rb") as reader, suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
        status = os.fstat(source)
        *folders, last = name.split(b"/")
        folder = os.dup(top)
        try:
            for part in folders:
                with suppress(FileExistsError):
                    os.mkdir(part, mode=0o777, dir_fd=folder)
                inner = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = inner
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(last, flags, status.st_mode & 0o777, dir_fd=folder), "wb") as writer:
                shutil.copyfileobj(reader, writer, 1_000_000)
                os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
            return True
        finally:
            os.close(folder)
    return False


def _ignored(local: local_repositories.LocalRepository, patterns: Path) -> set[bytes]:
    """The files of the checkout that git ignores and that the patterns in a file name."""
    patterns = patterns.resolve()
    completed = local.git(
        *("ls-files", f"--exclude-from={patterns}"),
        script=_LIST_IGNORED,
        env={"GIT_WORK_TREE": str(local.path)},
        readable=(patterns,),
        timeout_s=git.TIMEOUT_S,
    )
    if completed.returncode:
        text = completed.stderr.decode("utf-8", "replace")
        raise git.GitError(arguments=("ls-files",), exit_code=completed.returncode, text=text)
    paths, _, ignored = completed.stdout.partition(b"//\0")  # no name starts with a slash
    return {name for name in {*paths.split(b"\0")} & {*ignored.split(b"\0")} if name}


def init(folder: Path, mirror: Path, *, author: str, head: str, tip: str) -> None:
    """Create a repository that borrows the objects of `mirror`, with the branch `head` at `tip`.

    `git clone --shared` would start more processes.
    """
    ref = folder / "refs" / "heads" / head
    for path in (folder / "objects" / "info", folder / "objects" / "pack", ref.parent):
        path.mkdir(parents=True)
    (folder / "objects" / "info" / "alternates").write_text(f"{mirror / 'objects'}\n", encoding="utf-8")
    version = "1\n[extensions]\n\tobjectFormat = sha256" if len(tip) == mirrors.SHA256 else "0"
    (folder / "config").write_text(
        f"[core]\n\tbare = false\n\trepositoryformatversion = {version}\n"
        f'[user]\n\tname = "{author}"\n\temail = "{author}@fleet.invalid"\n',
        encoding="utf-8",
    )
    (folder / "HEAD").write_text(f"ref: refs/heads/{head}\n", encoding="utf-8")
    ref.write_text(f"{tip}\n", encoding="utf-8")
    with suppress(FileNotFoundError):  # it exists only if the user's repository is shallow
        shutil.copyfile(mirror / "shallow", folder / "shallow")


def existing() -> set[UUID]:
    """The sorties that have a copy or a folder of the engine."""
    return {sortie for folder in _folders() if (sortie := _sortie(folder)) is not None}


def set_aside(copy: Copy) -> list[Path]:
    """Rename the folders of a copy that is no longer needed. The caller removes them, or later `sweep` does."""
    renamed_folders = []
    for folder in (copy.path, copy.engine):
        with suppress(FileNotFoundError):
            renamed_folders.append(folder.rename(folder.with_name(f"{REMOVED}{secrets.token_hex(8)}")))
    return renamed_folders


def sweep() -> None:
    """Remove the folders that were set aside, and those of readers that were killed."""
    for folder in _folders():
        with suppress(FileNotFoundError):
            old = folder.name.startswith(READER) and time.time() - folder.stat().st_mtime > READER_S
            if old or folder.name.startswith(REMOVED):
                removal.remove(folder)


def _folders() -> list[Path]:
    homes = (settings.FLEET_HOME.work, settings.FLEET_HOME.commits)
    return [folder for home in homes if home.is_dir() for folder in home.iterdir()]


def _sortie(folder: Path) -> UUID | None:
    try:
        return ids.decode(ids.SORTIE, folder.name)
    except errors.Invalid:
        return None
