"""The difference between two commits as a patch, with the number of lines of each file; also of work in progress."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from django.conf import settings

from fleet import errors
from missions.workspaces import commits, copies
from missions.workspaces.copies import Copy
from missions.workspaces.repositories import git

MAX_BYTES = 20_000_000  # of a patch
MAX_FILES = 5_000  # that are listed
MAX_PATH_BYTES = 500_000  # of their paths: workloads choose how long these are, and a mission's diff has 51 lists
_OPTIONS = ("-r", "--no-ext-diff", "--no-textconv", "--no-color")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDiff:
    """A changed file, with the number of lines added and removed; both are None if it is binary."""

    path: str
    added: int | None
    removed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """The difference between two trees. `commit` is "" if the newer one is not committed."""

    base: str
    commit: str
    files: tuple[FileDiff, ...] = ()
    patch: bytes = b""
    truncated: bool = False  # the patch, after `max_bytes`, or the list of files

    def text(self) -> str:
        return self.patch.decode("utf-8", "replace")

    @property
    def lines_added(self) -> int:
        return sum(file.added or 0 for file in self.files)

    @property
    def lines_removed(self) -> int:
        return sum(file.removed or 0 for file in self.files)


def between(mirror: Path, *, base: str, commit: str, max_bytes: int = MAX_BYTES, binary: bool = False) -> Diff:
    """The difference between two commits of a mirror. `binary`: with the content of binary files, for `git apply`."""
    return _diff(base, commit, commit, at=mirror, env={}, max_bytes=max_bytes, binary=binary)


def of_copy(copy: Copy, *, max_bytes: int = MAX_BYTES, binary: bool = False, deadline: float = math.inf) -> Diff:
    """What an attempt has changed in its copy so far. The attempt and the engine's own index are not disturbed.

    Raises NotFound if the copy does not exist; CommitRefused if it contains files that the engine would not commit;
    Unavailable if its files cannot be read before `deadline` (of the monotonic clock): a workload decides how long git
    takes, by its files and the patterns in .gitignore.
    """
    with copies.reader(copy) as view:
        try:
            tree = _tree(view, deadline)
        except git.GitError:  # the engine was committing, so its index names objects that are not in the mirror
            view.index.unlink(missing_ok=True)
            git.run("read-tree", view.base, env=view.read_env)
            tree = _tree(view, deadline)
        return _diff(view.base, tree, "", at=None, env=view.read_env, max_bytes=max_bytes, binary=binary)


def _tree(view: Copy, deadline: float) -> str:
    late = errors.Unavailable(
        "There was not enough time to read the files that the attempt is changing.",
        hint="Look again once the sortie has ended.",
    )
    if (left_s := deadline - time.monotonic()) <= 0:
        raise late
    try:
        return commits.write_tree(view, max_bytes=settings.FLEET_COMMIT_BYTES, timeout_s=min(left_s, git.TIMEOUT_S))
    except git.GitError:
        if time.monotonic() >= deadline:
            raise late from None
        raise


def _diff(
    base: str, newer: str, commit: str, *, at: Path | None, env: Mapping[str, str], max_bytes: int, binary: bool
) -> Diff:
    counts, files_truncated = git.read_up_to(
        MAX_BYTES, "diff-tree", *_OPTIONS, "--no-renames", "-z", "--numstat", base, newer, at=at, env=env
    )
    files = tuple(_files(counts))
    listed = _listed(files)
    form = ("--binary",) if binary else ()
    patch, patch_truncated = git.read_up_to(
        max_bytes, "diff-tree", *_OPTIONS, "-p", "-M", *form, base, newer, at=at, env=env
    )
    return Diff(
        base=base,
        commit=commit,
        files=listed,
        patch=patch,
        truncated=files_truncated or patch_truncated or len(listed) < len(files),
    )


def _listed(files: Sequence[FileDiff]) -> tuple[FileDiff, ...]:
    """The first files, up to MAX_FILES and MAX_PATH_BYTES."""
    sizes = accumulate(len(file.path) for file in files[:MAX_FILES])
    return tuple(file for file, size in zip(files, sizes, strict=False) if size <= MAX_PATH_BYTES)


def _files(counts: bytes) -> Iterator[FileDiff]:
    for row in counts.split(b"\0"):
        parts = row.split(b"\t", 2)
        if len(parts) == 3:
            added, removed = (None if part == b"-" else int(part) for part in parts[:2])
            yield FileDiff(path=parts[2].decode("utf-8", "replace"), added=added, removed=removed)
