"""Runs git in repositories of users on this host, which workloads may be able to write to.

Workloads in a mission's folder can change the `.git` there. It must not lead the fleet's git to another repository
or file of the fleet's user. So git runs in a sandbox that sees the folder of the repository, its git folder and, where
necessary, the mirror. It can write to the git folder only, and only to receive a commit. `find` refuses git folders
that would make git wait or that consist of links, because an error that names the reason helps more than git's own.
"""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from agents.confinement import bubblewrap, host_paths, links
from agents.confinement.view import View
from agents.shim import beneath
from fleet import errors
from fleet.console import lines
from missions import hidden_folders
from missions.workspaces.repositories import git, git_environment

POINTER = "/plan/workspace/repository"
QUICK_S = 10.0  # for commands that read a few refs
MAX_BYTES = 1_000_000  # of a file that is read before git sees the repository
FILES = ("HEAD", "config", "config.worktree", "commondir", "gitdir", "index", "packed-refs", "shallow")
FOLDERS = ("objects", "refs", "logs", "info", "worktrees")  # with everything in them
# No workload can create a link here: these are not allowed as a mission's folder.
_TRUSTED = {Path(path) for path in host_paths.SHARED} - {Path(path) for path in ("/dev", "/run", "/tmp", "/var/tmp")}  # nosec B108
_UPLOAD_PACK = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "upload-pack")


class RepositoryMissing(errors.Invalid):
    """There is no git repository."""


class RepositoryRefused(errors.Invalid):
    """The repository could lead git to another place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRepository:
    """A repository on this host. `common` is its git folder with the objects and refs; both exist without links."""

    path: Path
    git_folder: Path  # differs from `common` in a linked worktree
    common: Path

    @property
    def is_bare(self) -> bool:
        """Whether it has no checkout, whatever its configuration says."""
        return self.git_folder == self.path

    def git(
        self,
        *arguments: str,
        script: str = "",
        env: Mapping[str, str] | None = None,
        mirror: Path | None = None,
        writable: bool = False,
        filtered: bool = True,
        ignore_setgid: bool = False,
        readable: Sequence[Path] = (),
        timeout_s: float = QUICK_S,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git in this repository; returns the completed process, whatever its exit code.

        `script`: a shell script to run instead; it gets `arguments` as "$0", "$1" and so on, and errors name "$0".
        `mirror`: a mirror that it may read. `readable`: more files. `writable`: it may write to the git folder.
        `filtered`: with the filter of system calls; `ignore_setgid`: which then lets git believe that it could set the
        setgid bit. Raises git.GitError after `timeout_s`; RepositoryRefused if the repository has been
        replaced.
        """
        argv = ["/bin/sh", "-euc", script, *arguments] if script else ["git", *arguments]
        environment = {**git_environment.in_local_repository(), "GIT_DIR": str(self.git_folder), **(env or {})}
        shared = (*((mirror,) if mirror else ()), *readable)
        with ExitStack() as descriptors:
            argv, pass_fds = self._in_sandbox(
                argv, descriptors, writable=writable, shared=shared, filtered=filtered, ignore_setgid=ignore_setgid
            )
            return git.run_to_end(argv, arguments, environment, timeout_s, pass_fds, self.path)

    def upload_pack(self, descriptors: ExitStack) -> tuple[str, list[int]]:
        """The option with which `git fetch` reads this repository, and the descriptors that git must inherit."""
        argv, pass_fds = self._in_sandbox(_UPLOAD_PACK, descriptors, writable=False, shared=(), filtered=False)
        return f"--upload-pack=exec {shlex.join(argv)}", pass_fds  # with exec, it is killed together with git

    def share_folders(self) -> None:
        """Give folders of objects and refs the mode of `objects`, if that has the setgid bit (`git init --shared`).

        The sandbox does not let git, and so the hooks of the repository, set this bit as root. Only folders are
        changed, by descriptors: a workload could put a program in the place of one.
        """
        with suppress(OSError), ExitStack() as descriptors:
            top = _open(self.common, descriptors)
            mode = stat.S_IMODE(os.stat("objects", dir_fd=top, follow_symlinks=False).st_mode)
            for name in ("objects", "refs") if mode & stat.S_ISGID else ():
                for _, _, _, folder in os.fwalk(name, dir_fd=top):
                    current = stat.S_IMODE(os.fstat(folder).st_mode)
                    if current & stat.S_ISGID and current | mode != current:  # new folders inherit the bit
                        os.fchmod(folder, current | mode)

    def _in_sandbox(
        self,
        argv: Sequence[str],
        descriptors: ExitStack,
        *,
        writable: bool,
        shared: tuple[Path, ...],
        filtered: bool,
        ignore_setgid: bool = False,
    ) -> tuple[list[str], list[int]]:
        if not settings.FLEET_SANDBOX:
            return list(argv), []
        hidden = _hidden()
        scratch = Path(descriptors.enter_context(tempfile.TemporaryDirectory(prefix="fleet-git-"))).resolve()
        # A folder of the fleet inside the git folder stays hidden or read-only, but then nothing else may be inside
        # one.
        encloses = any(path.is_relative_to(self.common) for path in (*hidden, *host_paths.code_folders()))
        view = View(
            scratch=scratch,
            readable=tuple(dict.fromkeys((self.path, self.common))),
            writable=(self.common,) if writable and encloses else (),
            copy=self.common if writable and not encloses else None,
            shared=shared,
            hidden=hidden,
            network=False,
        )
        options = ["--setenv", "HOME", str(scratch), "--unsetenv", "TMPDIR", "--unsetenv", "SSH_AUTH_SOCK"]
        options += ["--die-with-parent", "--chdir", str(self.path)]
        try:
            return bubblewrap.command(
                argv,
                view=view,
                descriptors=descriptors,
                extra_options=options,
                filtered=filtered,
                ignore_setgid=ignore_setgid,
            )
        except host_paths.PathRefused as error:
            raise RepositoryRefused(str(error), pointer=POINTER) from error


def find(repository: str) -> LocalRepository:
    """The repository at this path.

    Raises RepositoryMissing if there is none; RepositoryRefused if its path, or its git folder, leads to a place that
    does not belong to it.
    """
    path = _without_links(repository)
    if any(path.is_relative_to(folder) for folder in _hidden()):
        raise RepositoryRefused(
            f"{repository} belongs to the fleet itself.", hint="Name another repository.", pointer=POINTER
        )
    with ExitStack() as descriptors:
        top = _open(path, descriptors)
        mode = _mode(top, ".git")
        if stat.S_ISDIR(mode):
            local = LocalRepository(path=path, git_folder=path / ".git", common=path / ".git")
        elif stat.S_ISREG(mode):
            local = _from_git_file(path, _read(top, ".git", path))
        elif mode:
            raise _refusal(path / ".git", "is neither a folder nor a file")
        else:
            local = LocalRepository(path=path, git_folder=path, common=path)
        for folder in dict.fromkeys((local.common, local.git_folder)):
            _check(folder, _open(folder, descriptors), is_common=folder == local.common)
        _check_objects(local, _open(local.common, descriptors))
        return local


def above(path: Path) -> Path | None:
    """The nearest folder above `path` with a `.git`."""
    return next((folder for folder in path.resolve().parents if os.path.lexists(folder / ".git")), None)


def _from_git_file(path: Path, content: bytes) -> LocalRepository:
    """The repository of a checkout whose `.git` is a file. Its git folder must name this checkout too.

    This ensures that whoever wrote the `.git` can also write to that git folder, or that someone who can write to it
    created it for this checkout.
    """
    file = path / ".git"
    text = os.fsdecode(content)
    if not text.startswith("gitdir: "):
        raise _refusal(file, "is not a folder, and does not name one")
    git_folder = Path(os.path.normpath(path / text.removeprefix("gitdir: ").rstrip("\r\n")))
    with ExitStack() as descriptors:
        try:
            folder = _open(git_folder, descriptors)
        except RepositoryMissing as error:
            raise _refusal(file, f"names {git_folder}, which does not exist or is reached through a link") from error
        if _mode(folder, "commondir"):
            common = Path(
                os.path.normpath(git_folder / os.fsdecode(_read(folder, "commondir", git_folder)).rstrip("\n"))
            )
            back = os.fsdecode(_read(folder, "gitdir", git_folder)).rstrip("\n")
            if git_folder.parent != common / "worktrees" or Path(os.path.normpath(git_folder / back)) != file:
                raise _refusal(file, f"names {git_folder}, which is not the git folder of a worktree at {path}")
            return LocalRepository(path=path, git_folder=git_folder, common=common)
        work_tree = git.run(
            *("config", "--file", "-", "--get", "core.worktree"),
            stdin=_read(folder, "config", git_folder),
            accept=(0, 1),
        )
        back = os.fsdecode(work_tree).rstrip("\n")
        if not back or Path(os.path.normpath(git_folder / back)) != path:
            raise _refusal(
                file,
                f"names {git_folder}, whose core.worktree is not {path}",
                hint=f"If it belongs here: git config --file {shlex.quote(str(git_folder / 'config'))} core.worktree "
                f"{shlex.quote(str(path))}. Otherwise launch from the main checkout.",
            )
    return LocalRepository(path=path, git_folder=git_folder, common=git_folder)


def _check(path: Path, folder: int, *, is_common: bool) -> None:
    """Check the files and folders of a git folder.

    Raises RepositoryRefused if one is of another kind; RepositoryMissing if it is not a git folder.
    """
    required = {"HEAD", "objects", "refs"} if is_common else {"HEAD", "commondir"}
    for names, is_kind in ((FILES, stat.S_ISREG), (FOLDERS, stat.S_ISDIR)):
        for name in names:
            mode = _mode(folder, name)
            if not mode and name in required:
                raise RepositoryMissing(pointer=POINTER)
            if mode and not is_kind(mode):
                kind = "folder" if is_kind is stat.S_ISDIR else "file"
                raise _refusal(path / name, f"is not a regular {kind}")
            if mode and is_kind is stat.S_ISDIR:
                _check_tree(path, folder, name)
    if is_common and _mode(folder, "commondir"):
        raise _refusal(path / "commondir", "names another repository")


def _check_tree(path: Path, folder: int, top: str) -> None:
    """Raise RepositoryRefused if there is anything but regular files and folders in the folder `top`."""
    names = [top]
    while names:
        name = names.pop()
        try:
            descriptor = beneath.open_at(
                folder, name, os.O_RDONLY | os.O_DIRECTORY, resolve=beneath.BENEATH | beneath.NO_LINKS
            )
        except (FileNotFoundError, PermissionError):
            continue  # git is removing it, or cannot read it either
        except OSError as error:
            raise _refusal(path / name, "is not a regular folder") from error
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        names.append(f"{name}/{entry.name}")
                    elif not entry.is_file(follow_symlinks=False) and _mode(descriptor, entry.name):
                        raise _refusal(path / name / entry.name, "is not a regular file")
        finally:
            os.close(descriptor)


def _check_objects(local: LocalRepository, common: int) -> None:
    """Raise RepositoryRefused if the repository borrows objects from a folder outside it."""
    name = "objects/info/alternates"
    if not _mode(common, name):
        return
    for line in os.fsdecode(_read(common, name, local.common)).splitlines():
        folder = Path(os.path.realpath(local.common / "objects" / line))
        if line and not line.startswith("#") and not _belongs(local, folder):
            git_folder, file = shlex.quote(str(local.common)), shlex.quote(str(local.common / name))
            raise _refusal(
                local.common / name,
                "borrows objects from another repository",
                hint=f"If you set this up (git clone --shared), copy the objects: git --git-dir={git_folder} repack -a -d && "
                f"rm {file}. Otherwise remove the file.",
            )


def _belongs(local: LocalRepository, folder: Path) -> bool:
    """Whether a folder is inside the repository and not one of the fleet's own folders."""
    return any(folder.is_relative_to(inside) for inside in (local.path, local.common)) and not any(
        folder.is_relative_to(inside) for inside in _hidden()
    )


def _without_links(repository: str) -> Path:
    """The path of a repository without symbolic links.

    Raises RepositoryRefused for links that a workload could have made.
    """
    try:
        return links.resolve(Path(os.path.normpath(repository)), trusts=lambda link: link.parent in _TRUSTED)
    except links.UntrustedLink as error:
        raise RepositoryRefused(
            f"{error.filename} is a symbolic link, which could be replaced, so git does not follow it.",
            hint=f"If it is yours, name {os.path.realpath(repository)} as the repository.",
            pointer=POINTER,
        ) from error


def _hidden() -> tuple[Path, ...]:
    """The fleet's own folders, without links."""
    return tuple(path.resolve() for path in hidden_folders.paths())


def _open(path: Path, descriptors: ExitStack) -> int:
    try:
        descriptor = beneath.open_path(path, folder=True)
    except OSError as error:
        raise RepositoryMissing(f"There is no git repository at {path}.", pointer=POINTER) from error
    descriptors.callback(os.close, descriptor)
    return descriptor


def _mode(folder: int, name: str) -> int:
    """The type and mode of a file below `folder`; 0 if it does not exist. A link in its path counts as a link."""
    try:
        descriptor = beneath.open_at(
            folder, name, os.O_PATH | os.O_NOFOLLOW, resolve=beneath.BENEATH | beneath.NO_MAGIC_LINKS
        )
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:  # a link in its path leads out of the folder
        return stat.S_IFLNK
    try:
        return os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def _read(folder: int, name: str, path: Path) -> bytes:
    try:
        descriptor = beneath.open_plain(folder, name)
    except OSError as error:
        raise _refusal(path / name, "is not a regular file") from error
    with open(descriptor, "rb") as file:
        return file.read(MAX_BYTES)


def _refusal(path: Path, reason: str, *, hint: str = "") -> RepositoryRefused:
    hint = hint or "Restore it from a clone that you trust, or launch from the main checkout of the repository."
    return RepositoryRefused(
        f"{lines.one_line(f'{path} {reason}')}, so git does not read this repository.", hint=hint, pointer=POINTER
    )
