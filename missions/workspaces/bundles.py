"""The commits of a mission as a git bundle, with which it moves to another fleet. Received bundles are not trusted.

A bundle has the history of some commits without that of the base, and needs no object except those of the base. An
incoming one is unpacked in a repository of its own, where everything that the commits refer to must be in the bundle
or in the history of the base: the mirror also has the commits of other missions, which knowing their ids must not be
enough to read. Only then does it reach the mirror, by a fetch that checks every object again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from django.conf import settings

from fleet import errors
from fleet.streams import Writable
from missions.workspaces import copies
from missions.workspaces.repositories import git, mirrors

REFS = "refs/fleet/commits"  # names in the bundle only
MAX_OBJECTS = 2_000_000
MAX_FILES = 1_000_000  # that a commit has in addition to those of the base
MAX_PATH_BYTES = 4_096
_PACK_HEADER_BYTES = 12
# Nothing depends on how the mirror has packed the objects.
_PACK = ("--stdout", "--revs", "--delta-base-offset", "-q", "--threads=1", "--no-reuse-object", "--no-use-bitmap-index")
_FULL = "No space left on device"
# Deltas against objects outside the bundle stay unresolved, which is an error. $1: the pack.
_UNPACK = 'ulimit -v 4000000; git index-pack --stdin --strict --threads=1 <"$1"'


class BundleRefused(ValueError):
    """The bundle is not acceptable. The message completes the sentence "… cannot be used: "."""


def header(commits: Collection[str], *, base: str) -> bytes:
    """The first lines of a bundle with the history of these commits: what git needs to use it."""
    is_sha256 = len(base) == mirrors.SHA256
    version = "# v3 git bundle\n@object-format=sha256\n" if is_sha256 else "# v2 git bundle\n"
    refs = "".join(f"{commit} {REFS}/{commit}\n" for commit in sorted(commits))
    return f"{version}-{base} base\n{refs}\n".encode()


def write(mirror: Path, *, commits: Collection[str], base: str, out: Writable) -> None:
    """Write the history of these commits without that of `base`. The same git writes the same bytes every time.

    Raises GitError if the mirror lacks a commit.
    """
    out.write(header(commits, base=base))
    revisions = "".join(f"{commit}\n" for commit in sorted(commits)) + f"^{base}\n"
    for piece in git.stream("pack-objects", *_PACK, at=mirror, stdin=revisions.encode()):
        out.write(piece)


def reachable(ids: Collection[str], *, commits: Collection[str], base: str, env: dict[str, str]) -> set[str]:
    """Those of these ids that are commits in the history of `commits` or of `base`."""
    revisions = "".join(f"{commit}\n" for commit in {*commits, base}).encode()
    requested_ids = {commit.encode() for commit in ids}
    lines = git.stream_lines("rev-list", "--stdin", env=env, stdin=revisions)
    return {line.decode() for line in lines if line in requested_ids} if requested_ids else set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A repository that borrows the objects of a mirror, in which a bundle is checked before the mirror gets it."""

    folder: Path
    mirror: Path
    base: str

    @property
    def env(self) -> dict[str, str]:
        return {"GIT_DIR": str(self.folder / "git")}

    def unpack(self, bundle: IO[bytes], *, commits: Collection[str], max_file_bytes: int, max_bytes: int) -> None:
        """Unpack and check a bundle that must have exactly these commits. Raises BundleRefused with the reason.

        No file of a commit may have more than `max_file_bytes`, and neither all objects together, nor the files that a
        commit adds to those of the base, more than `max_bytes`.
        """
        expected = header(commits, base=self.base)
        if bundle.read(len(expected)) != expected:
            raise BundleRefused("its bundle does not have exactly the commits that the mission names")
        self._index(bundle)
        sizes = self._sizes(max_file_bytes=max_file_bytes, max_bytes=max_bytes)
        self._check_closed(commits, sizes)
        self._check_files(commits, max_bytes=max_bytes)

    def reachable(self, ids: Collection[str], *, commits: Collection[str]) -> set[str]:
        """Those of these ids that are commits of the bundle, or of the history of the base."""
        return reachable(ids, commits=commits, base=self.base, env=self.env)

    def publish(self, commits: Collection[str]) -> None:
        """Copy the commits to the mirror. No ref points to them yet."""
        options = ("-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--stdin")
        names = "".join(f"{commit}\n" for commit in sorted(commits)).encode()
        git.run(*options, "--", str(self.folder / "git"), at=self.mirror, stdin=names, timeout_s=git.NETWORK_TIMEOUT_S)

    def _index(self, bundle: IO[bytes]) -> None:
        start = bundle.read(_PACK_HEADER_BYTES)
        if len(start) != _PACK_HEADER_BYTES or start[:8] != b"PACK\0\0\0\2":
            raise BundleRefused("its bundle has no pack of objects")
        if (count := int.from_bytes(start[8:])) > MAX_OBJECTS:
            raise BundleRefused(f"its bundle has {count:,} objects; at most {MAX_OBJECTS:,} are allowed")
        pack, empty, run = (self.folder / name for name in ("pack", "empty", "run"))
        for folder in (empty, run):
            folder.mkdir(mode=0o700)
        try:
            with pack.open("xb") as file:
                file.write(start)
                shutil.copyfileobj(bundle, file, git.PIECE_BYTES)
            git.run_in_sandbox(
                _UNPACK,
                str(pack),
                copy=empty,
                writable_copy=False,
                run=run,
                git_folder=self.folder / "git",
                mirror=self.mirror,
                readable=(pack,),
                env=self.env,
                timeout_s=git.NETWORK_TIMEOUT_S,
            )
        except git.GitError as error:
            if _FULL in error.text:
                raise errors.Unavailable("The commits could not be stored: the disk is full.") from error
            reason = " ".join(error.text.splitlines()[:2])[:300].removesuffix(".")
            raise BundleRefused(f"git does not accept its bundle ({reason})") from error
        finally:
            pack.unlink(missing_ok=True)

    def _sizes(self, *, max_file_bytes: int, max_bytes: int) -> set[bytes]:
        """The objects of the bundle. Raises BundleRefused if they are too large."""
        (index,) = (self.folder / "git" / "objects" / "pack").glob("*.idx")
        format = "--object-format=sha256" if len(self.base) == mirrors.SHA256 else "--object-format=sha1"
        ids = [line.split()[1] for line in git.stream_lines("show-index", format, stdin=index.read_bytes())]
        total = 0
        form = "--batch-check=%(objectsize)"
        for size in map(int, git.stream_lines("cat-file", form, env=self.env, stdin=b"\n".join([*ids, b""]))):
            total += size
            if size > max_file_bytes:
                raise BundleRefused(
                    f"its bundle has an object of {size:,} bytes; at most {max_file_bytes:,} are allowed"
                )
            if total > max_bytes:
                raise BundleRefused(f"its bundle has more than {max_bytes:,} bytes")
        return set(ids)

    def _check_closed(self, commits: Collection[str], objects: set[bytes]) -> None:
        """Raise BundleRefused if the commits refer to an object that is neither in the bundle nor in the base's history."""
        words = ("rev-list", "--objects", "--no-object-names", "--stdin")
        revisions = "".join(f"{commit}\n" for commit in commits) + f"^{self.base}\n"
        try:
            lines = git.stream_lines(*words, env=self.env, stdin=revisions.encode())
            foreign = {line for line in lines if line not in objects}
            if foreign:  # such as a file that a commit has taken from an older state of the base
                for line in git.stream_lines(*words, env=self.env, stdin=f"{self.base}\n".encode()):
                    foreign.discard(line)
        except git.GitError as error:
            raise BundleRefused("its bundle is incomplete") from error
        if foreign:
            raise BundleRefused("its bundle refers to objects that are neither in it nor in the history of the base")

    def _check_files(self, commits: Collection[str], *, max_bytes: int) -> None:
        """Raise BundleRefused if a commit has far more files than the base, which a few objects can bring about."""
        max_files, max_total = MAX_FILES, max_bytes
        for size, _ in self._files(self.base):
            max_files += 1
            max_total += size
        for commit in commits:
            total = 0
            for count, (size, path) in enumerate(self._files(commit), start=1):
                total += size
                if count > max_files or total > max_total:
                    raise BundleRefused(f"its commit {commit[:12]} has too many files, or too large ones")
                if len(path) > MAX_PATH_BYTES:
                    raise BundleRefused(f"its commit {commit[:12]} has a path of more than {MAX_PATH_BYTES:,} bytes")

    def _files(self, commit: str) -> Iterator[tuple[int, bytes]]:
        """The size and the path of each file of a commit. A submodule has the size 0."""
        words = ("ls-tree", "-r", "-z", "--full-tree", "--format=%(objectsize) %(path)", commit)
        for line in git.stream_lines(*words, env=self.env, separator=b"\0"):
            size, _, path = line.partition(b" ")
            yield 0 if size == b"-" else int(size), path


@contextmanager
def incoming(mirror: Path, *, base: str) -> Iterator[Incoming]:
    """A repository for one bundle, removed at the end. If this process is killed, `copies.sweep` removes it."""
    settings.FLEET_HOME.commits.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=copies.READER, dir=settings.FLEET_HOME.commits) as folder:
        copies.init(Path(folder) / "git", mirror, author="Fleet", head="fleet/incoming", tip=base)
        yield Incoming(folder=Path(folder), mirror=mirror, base=base)
