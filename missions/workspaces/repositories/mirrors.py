"""Mirrors of the repositories that missions change: `.fleet/repositories/ID.git`, bare, written to by the fleet alone.

A mirror has the history of every base commit (refs/fleet/bases), the branches of missions (refs/heads), every commit
that an attempt made (refs/fleet/attempts) and the lanes (refs/fleet/lanes). Nothing but the base is fetched from the
user's repository.

Locks: ID.fetch-lock while objects are fetched from the user's repository, ID.refs-lock while refs are written. The git
processes inherit them. So the holder of a lock knows that no other process writes, even if the fleet's own process was
killed, and may remove the git lock files that a killed process has left. A process that cannot get ID.refs-lock,
because its holder is suspended, writes anyway: git's own lock files suffice for that.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from django.conf import settings

from fleet import errors, humanise
from missions import removal
from missions.workspaces.repositories import git, local_repositories, sources

SHA256 = 64  # hexadecimal digits of an id in a repository that uses SHA-256
# A commit that Postgres records as landed must be on disk.
_CONFIGURATION = "[core]\n\tfsync = committed,loose-object,reference\n\tfsyncMethod = batch\n"
MAX_FILES = 1_000_000  # of the commit that a mission starts from
MAX_NAME_BYTES = 200_000_000  # of the paths of these files together: git keeps them in memory
RESERVE_BYTES = 1_000_000_000  # left free on the disk by a large commit; a smaller one than this is always accepted
LOCK_S = 2.0  # how long to wait for other processes that write refs: each takes a few milliseconds
REMOVED = "removed-"  # the name prefix of a mirror that is being removed
BASES, ATTEMPTS, LANES, CHECKPOINTS, TARGETS = (
    "refs/fleet/bases",
    "refs/fleet/attempts",
    "refs/fleet/lanes",
    "refs/fleet/checkpoints",
    "refs/fleet/targets",  # branches of the user's repository that a mission was merged into
)


def of(repository: str) -> Path:
    """The folder of a repository's mirror. It need not exist."""
    return settings.FLEET_HOME.repositories / f"{hashlib.sha256(repository.encode()).hexdigest()[:16]}.git"


def ensure(repository: str, *, commit: str) -> Path:
    """The mirror, with the history of this commit. Fetches it once; several processes may call this at once."""
    path = of(repository)
    if not _has(path, commit):
        settings.FLEET_HOME.repositories.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock(path.with_suffix(".fetch-lock"), within_s=git.NETWORK_TIMEOUT_S) as descriptor:
            if not path.exists():
                _create(path, sha256=len(commit) == SHA256)
            if not _has(path, commit):
                _fetch(path, repository, commit, descriptor)
                _check_size(path, commit)
                set_ref(path, f"{BASES}/{commit}", commit)
    return path


def _check_size(path: Path, commit: str) -> None:
    """Raise Invalid if a copy of this commit would fill the memory or the disk. A few objects can have many files."""
    words, env = ("ls-tree", "-r", "--full-tree"), {"GIT_DIR": str(path)}
    name_bytes = 0
    for number, name in enumerate(git.stream_lines(*words, "-z", "--name-only", commit, env=env, separator=b"\0"), 1):
        name_bytes += len(name)
        if number > MAX_FILES or name_bytes > MAX_NAME_BYTES:
            raise _too_large(commit, f"more than {MAX_FILES:,} files, or too long paths")
    free = max(shutil.disk_usage(path).free - RESERVE_BYTES, RESERVE_BYTES)  # a full disk has an error of its own
    for size in git.stream_lines(*words, "--format=%(objectsize)", commit, env=env):
        free -= 0 if size == b"-" else int(size)  # a submodule
        if free < 0:
            raise _too_large(commit, "more bytes than this disk has space for")


def _too_large(commit: str, reason: str) -> errors.Invalid:
    return errors.Invalid(
        f"The commit {commit[:12]} has {reason}.",
        hint="Start from another commit, or free disk space.",
        pointer="/plan/workspace/base",
    )


def fetch(repository: str, *, revision: str, to: str) -> str:
    """Fetch a branch, tag or commit of the user's repository into the ref `to` of the mirror. Returns the commit.

    Raises Invalid if it does not exist there.
    """
    _, commit = sources.resolve_base(repository, revision)
    path = of(repository)
    with lock(path.with_suffix(".fetch-lock"), within_s=git.NETWORK_TIMEOUT_S) as descriptor:
        _fetch(path, repository, commit, descriptor)
    set_ref(path, to, commit)
    return commit


def _create(path: Path, *, sha256: bool) -> None:
    """Create an empty mirror. It is renamed to its final name once it is complete."""
    new = path.with_suffix(".new")
    removal.remove(new)
    initialize(new, sha256=sha256)
    try:
        with open(new / "config", "a", encoding="utf-8") as file:
            file.write(_CONFIGURATION)
        new.rename(path)
    except OSError as error:
        raise errors.Unavailable(f"The mirror {path} cannot be created: {error.strerror}.") from error


def initialize(path: Path, *, sha256: bool) -> None:
    """Create an empty bare repository."""
    object_format = "sha256" if sha256 else "sha1"
    git.run("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", str(path))


def _fetch(path: Path, repository: str, commit: str, descriptor: int) -> None:
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow", "--no-recurse-submodules")
    with ExitStack() as descriptors:
        inherited: list[int] = []
        source: tuple[str, ...]
        if not sources.is_address(repository):
            local = local_repositories.find(repository)
            option, inherited = local.upload_pack(descriptors)
            source = (option, "--", str(local.path))
        else:
            source = ("--", repository)
        _write(
            path,
            *("fetch", *options, *source, commit),
            descriptor=descriptor,
            inherited=inherited,
            timeout_s=git.NETWORK_TIMEOUT_S,
        )


def _has(path: Path, commit: str) -> bool:
    """Whether a fetch of this commit has completed here: its ref is written after its objects."""
    if not (path / "HEAD").exists():
        return False
    return git.execute("rev-parse", "--verify", "--quiet", f"{BASES}/{commit}", at=path).returncode == 0


@contextmanager
def lock(path: Path, *, within_s: float = LOCK_S) -> Iterator[int]:
    """Lock a file; yields its descriptor, for processes that must keep the lock if this process is killed.

    Raises Unavailable if another process does not release the lock in time.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline, pause_s = time.monotonic() + within_s, 0.001
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise errors.Unavailable(f"Another process has held the lock {path} for {humanise.duration(within_s)}.")
            time.sleep(pause_s)
            pause_s = min(0.02, 2 * pause_s)
        yield descriptor
    finally:
        os.close(descriptor)


def write_refs(path: Path, commands: str) -> None:
    """Run commands of `git update-ref --stdin` as one transaction. Raises GitError if a ref has an unexpected value."""
    text = f"start\n{commands}prepare\ncommit\n".encode("utf-8", "surrogateescape")
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(lock(path.with_suffix(".refs-lock")))
        except errors.Unavailable:
            git.run("update-ref", "--stdin", at=path, stdin=text)
        else:
            _write(path, "update-ref", "--stdin", stdin=text, descriptor=descriptor, lock_s=LOCK_S / 2)


def set_ref(path: Path, ref: str, commit: str) -> None:
    """Create or move a ref, whatever its value is."""
    write_refs(path, f"update {ref} {commit}\n")


def _write(
    path: Path,
    *arguments: str,
    descriptor: int,
    inherited: Sequence[int] = (),
    stdin: bytes = b"",
    timeout_s: float = git.TIMEOUT_S,
    lock_s: float = git.NETWORK_TIMEOUT_S,
) -> None:
    """Run git, and remove lock files of git that killed processes have left.

    They must be leftovers while this process has the lock `descriptor`. After `lock_s` that is no longer certain: this
    process may have been suspended, and another may have stopped waiting for the lock.
    """
    deadline = time.monotonic() + lock_s
    while True:
        try:
            git.run(*arguments, at=path, stdin=stdin, timeout_s=timeout_s, pass_fds=(descriptor, *inherited))
            return
        except git.GitError as error:
            files = [file for file in error.lock_files if file.is_relative_to(path)]
            if time.monotonic() > deadline or not [file for file in files if _unlink(file)]:
                raise


def _unlink(file: Path) -> bool:
    with suppress(OSError):
        file.unlink()
        return True
    return False


def read_ref(path: Path, ref: str) -> str:
    """The object that a ref points to; "" if it does not exist."""
    return git.run("rev-parse", "--verify", "--quiet", ref, at=path, accept=(0, 1)).decode().strip()


def tip(path: Path, branch: str, *, start: str) -> str:
    """The newest commit of a mission's branch; the branch is created at `start` if it does not exist."""
    ref = f"refs/heads/{branch}"
    if commit := read_ref(path, ref):
        return commit
    try:
        write_refs(path, f"create {ref} {start}\n")
        return start
    except git.GitError:
        if commit := read_ref(path, ref):  # another attempt has created it
            return commit
        raise


def find_tip(path: Path, branch: str) -> str:
    """The newest commit of a mission's branch; "" if the mirror or the branch does not exist."""
    if not (path / "HEAD").exists():
        return ""
    return read_ref(path, f"refs/heads/{branch}")


def remove_work(path: Path, *, branches: Collection[str], sorties: Collection[str], missions: Collection[str]) -> None:
    """Remove the refs of these branches, and what these sorties and missions (by their ids) have in the mirror."""
    if not (path / "HEAD").exists():
        return
    refs = git.line("for-each-ref", "--format=%(refname)", "refs/heads", LANES, ATTEMPTS, TARGETS, at=path).splitlines()
    removed = {f"{home}/{branch}" for branch in branches for home in ("refs/heads", LANES)}
    removed |= {f"{TARGETS}/{mission}" for mission in missions}
    removed |= {ref for ref in refs if ref.startswith(f"{ATTEMPTS}/") and ref.split("/")[3] in sorties}
    commands = "".join(f"delete {ref}\n" for ref in refs if ref in removed)
    write_refs(path, commands)


def existing() -> list[Path]:
    """All mirrors on this host."""
    home = settings.FLEET_HOME.repositories
    return sorted(path for path in home.glob("*.git") if path.is_dir()) if home.is_dir() else []


def has_work(path: Path) -> bool:
    """Whether a mirror contains commits of attempts, of missions or of checkpoints: more than the bases of missions."""
    globs = (f"--glob={home}" for home in ("refs/heads", ATTEMPTS, CHECKPOINTS))
    return bool(git.line("rev-list", "--max-count=1", *globs, "--not", f"--glob={BASES}", at=path))


def remove(path: Path) -> None:
    """Remove a mirror that nothing uses. It disappears at once, even if this process is killed meanwhile."""
    trash = path.with_name(f"{REMOVED}{secrets.token_hex(8)}")
    with lock(path.with_suffix(".fetch-lock"), within_s=git.NETWORK_TIMEOUT_S), lock(path.with_suffix(".refs-lock")):
        path.rename(trash)
    removal.remove(trash)


def sweep() -> None:
    """Remove what is left of mirrors whose removal was interrupted."""
    for path in settings.FLEET_HOME.repositories.glob(f"{REMOVED}*"):
        removal.remove(path)


def contains(path: Path, *, commit: str, ref: str) -> bool:
    """Whether `commit` is an ancestor of `ref`, or `ref` itself."""
    return git.execute("merge-base", "--is-ancestor", commit, ref, at=path).returncode == 0
