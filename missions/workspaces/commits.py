"""Turns what an attempt changed in its copy into one commit in the mirror.

Git reads the copy in a sandbox, with a git folder and an index that no attempt can reach. The objects then move to the
mirror by a fetch that checks them.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.console import lines
from missions.workspaces import refusals
from missions.workspaces.copies import Copy
from missions.workspaces.refusals import CommitRefused
from missions.workspaces.repositories import git, mirrors
from missions.workspaces.repositories.git import printable

GITLINK, LINK, MISSING = "160000", "120000", "000000"
MAX_FILES = 100_000  # changed by one attempt
MAX_LIST_BYTES = 50_000_000  # of git's list of these files: their modes, ids and paths
MAX_LISTED = 1_000  # paths that a `Change` lists
MAX_PATCHED_BYTES = 1_000_000_000  # of all files that a patch changes
SUSPECTS = 9  # exit code of _PREPARE: the copy has files that git should not read yet
UNLIMITED_BYTES = 2**62  # the size limit of a file if there is none

# $1: the size limit; git would read a larger file before we could refuse it. $2: the folder for this script's files.
# $3: the engine's repository. Named pipes are refused too, because git would block when it reads its rules (.git*) from
# one.
#
# Git compares times in seconds. So it rereads every file that was written in the same second as the index, which is all
# of a copy that was made within one second. We can tell which files may have changed in that second after the copy was
# made, because ctime has nanoseconds and cannot be set. The index entries of these files lose their times, so that the
# index itself can get a later time.
_PREPARE = """
made=$GIT_INDEX_FILE second=$GIT_INDEX_FILE later=
if test -e "$3/second" && test "$GIT_INDEX_FILE" -ot "$3/second"; then made=$3/made second=$3/second later=yes; fi
find . -path ./.git -prune -o ! -type d \\( -cnewer "$made" ! -cnewer "$second" -fprint0 "$2/touched" , \\
    \\( -type f -size +"$1"c -o -type p -name '.git*' \\) -print \\) >"$2/suspects" || later=
if test -s "$2/suspects"; then exit 9; fi
if test "$later"; then
    touch -r "$3/second" "$GIT_INDEX_FILE"
    if test -s "$2/touched"; then
        xargs -0r git ls-files -sz -- <"$2/touched" >"$2/entries"
        git update-index -z --index-info <"$2/entries"
        touch -r "$3/second" "$GIT_INDEX_FILE"
    fi
fi
"""
# The refresh compares files that were written in the same second as the index. `git add` alone would store each of them
# again, because the objects that the copy borrows are read-only here: thousands of files of a large repository.
#
# In a submodule whose commit has not changed, `git add` runs `git status` with the submodule's configuration, which may
# name programs to run. So git skips submodules: deleted ones are removed first, and those with another commit refused.
_ADD = r"""
git update-index -q --refresh || :
git ls-files -sz | sed -zn 's/^160000 [^\t]*\t//p' >"$HOME/submodules"
if test -s "$HOME/submodules"; then
    xargs -0 sh -c 'for path; do test -d "$path" && ! test -L "$path" || printf "%s\0" "$path"; done' sh \
        <"$HOME/submodules" >"$HOME/gone"
    git update-index -z --force-remove --stdin <"$HOME/gone"
    git ls-files -sz | sed -zn 's/^160000 [^\t]*\t//p' >"$HOME/submodules"
    path=$(xargs -0r git ls-files -m -- <"$HOME/submodules" | head -n 1)
    if test "$path"; then echo "error: '$path' does not have a commit checked out" >&2; exit 1; fi
    git update-index -z --skip-worktree --stdin <"$HOME/submodules"
fi
git add --all -- . && git write-tree
"""
_FIND_PIPES = "find . -path ./.git -prune -o -type p -name '.git*' -print"
_FIND_LARGE = """find . -path ./.git -prune -o -type f -size +"$1"c -print0 |
xargs -0r git ls-files -z --others --modified --exclude-standard --"""
_APPLY = 'ulimit -v 4000000; git apply --cached --whitespace=nowarn -- "$1" && git write-tree'
_CHECK_OUT = 'git read-tree --reset -u "$1" && git clean -ffdq'

_FSCK = re.compile(r"^error: object \w+: (.+)$", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFile:
    path: str
    mode: str  # as git writes it; 000000: it was removed
    blob: str

    def __str__(self) -> str:
        return printable(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit of an attempt. `commit` equals `base` if nothing changed."""

    base: str
    commit: str
    tree: str
    files: tuple[ChangedFile, ...] = ()
    lines_added: int = 0
    lines_removed: int = 0

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(file.path for file in self.files)

    def change_fields(self) -> dict[str, Any]:
        """The fields of a `Change` that describe the commit."""
        return {
            "base": self.base,
            "commit": self.commit,
            "files": [printable(path) for path in self.paths[:MAX_LISTED]],
            "number_of_files": len(self.files),
            "lines_added": self.lines_added,
            "lines_removed": self.lines_removed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The author and the text of a commit. `trailers` are its last lines.

    `git log` prints the text unchanged, so none of it may control a terminal or begin a line of its own.
    """

    author: str
    subject: str
    trailers: Mapping[str, str]

    def text(self) -> str:
        trailers = [f"{name}: {lines.one_line(value)}" for name, value in self.trailers.items()]
        return "\n".join([lines.one_line(self.subject), "", *trailers]) + "\n"

    def env(self) -> dict[str, str]:
        return {"GIT_AUTHOR_NAME": self.author, "GIT_AUTHOR_EMAIL": f"{self.author}@fleet.invalid"}


def commit(
    copy: Copy,
    *,
    base: str,
    message: Message,
    ref: str,
    max_bytes: int,
    secret: str = "",
    merged: Sequence[str] = (),
) -> Commit:
    """Commit what differs from `base` in the copy, and store the commit in the mirror under `ref`.

    Raises CommitRefused for a nested repository, a file that cannot be read or has more than `max_bytes`, a file that
    contains `secret` (the attempt's own token), and conflict markers of the merge of the commits `merged`.
    """
    tree = write_tree(copy, max_bytes=max_bytes)
    changes = _changes(copy, base, tree)
    if not changes.files:
        return changes
    _check(copy, changes.files, max_bytes=max_bytes, secret=os.fsencode(secret), merged=merged)
    created = git.line(
        "commit-tree", tree, "-p", base, at=None, env={**copy.read_env, **message.env()}, stdin=message.text().encode()
    )
    store(copy, commit=created, ref=ref)
    return Commit(
        base=base,
        commit=created,
        tree=tree,
        files=changes.files,
        lines_added=changes.lines_added,
        lines_removed=changes.lines_removed,
    )


def apply(copy: Copy, *, patch: bytes, max_bytes: int, max_total_bytes: int = MAX_PATCHED_BYTES) -> None:
    """Apply a patch to the files of the copy, which are those of its base.

    Raises CommitRefused if it does not apply exactly, if a file would have more than `max_bytes`, or all together more
    than `max_total_bytes`. A small patch can expand to files of any size. So git's memory is limited, and the files are
    written only after their sizes are known; until then they are stored compressed.
    """
    file = copy.engine / "patch"
    file.write_bytes(patch)
    try:
        applied = git.run_in_sandbox(
            _APPLY,
            str(file),
            copy=copy.path,
            writable_copy=False,
            run=copy.run,
            git_folder=copy.git_folder,
            mirror=copy.mirror,
            readable=(file,),
            env=copy.env,
        )
    except git.GitError as error:
        reason = " ".join(error.text.splitlines()[:3])[:500]
        raise CommitRefused(
            f"The patch does not apply to {copy.base[:12]}: {reason.removesuffix('.')}.",
            hint="Send `git diff --binary BASE`.",
        ) from error
    finally:
        file.unlink(missing_ok=True)
    tree = applied.stdout.decode().strip()
    _check_patched(copy, _changes(copy, copy.base, tree).files, max_bytes=max_bytes, max_total_bytes=max_total_bytes)
    check_out(copy, tree=tree)


def _check_patched(copy: Copy, files: Collection[ChangedFile], *, max_bytes: int, max_total_bytes: int) -> None:
    present = [file for file in files if file.mode != MISSING]
    for file in present:
        if file.mode == GITLINK:
            raise refusals.nested(str(file))
    sizes = _sizes(copy, present)
    for file, size in zip(present, sizes, strict=True):
        if size > max_bytes:
            raise refusals.large(file.path, max_bytes)
    if sum(sizes) > max_total_bytes:
        raise CommitRefused(
            f"The files that the patch changes have {sum(sizes):,} bytes; at most {max_total_bytes:,} are allowed.",
            hint="Send a smaller patch.",
        )


def _sizes(copy: Copy, files: Iterable[ChangedFile]) -> list[int]:
    names = "".join(f"{file.blob}\n" for file in files).encode()
    return [*map(int, git.run("cat-file", "--batch-check=%(objectsize)", env=copy.read_env, stdin=names).split())]


def write_tree(copy: Copy, *, max_bytes: int | None = None, timeout_s: float = git.TIMEOUT_S) -> str:
    """The tree of the files in the copy that git does not ignore. Its objects are in the engine's folder.

    Each of the two git processes that it may take is ended after `timeout_s`.

    Raises CommitRefused if the copy contains another repository, or a file that git cannot add, or (with `max_bytes`)
    one that is too large.
    """
    arguments = (str(max_bytes or UNLIMITED_BYTES), str(copy.run), str(copy.git_folder))
    try:
        completed = _run(copy, _PREPARE + _ADD, *arguments, accept=(0, SUSPECTS), timeout_s=timeout_s)
        if completed.returncode == SUSPECTS:
            _refuse_suspects(copy, max_bytes or UNLIMITED_BYTES)
            completed = _run(copy, _ADD, timeout_s=timeout_s)
    except git.GitError as error:
        if refusal := refusals.explain(error.text):
            raise refusal from error
        raise
    # Git leaves out folders that it cannot read, and succeeds.
    if refusal := refusals.explain(completed.stderr.decode("utf-8", "replace")):
        raise refusal
    return completed.stdout.decode().strip()


def _run(
    copy: Copy, script: str, *arguments: str, accept: Sequence[int] = (0,), timeout_s: float = git.TIMEOUT_S
) -> subprocess.CompletedProcess[bytes]:
    return git.run_in_sandbox(
        script,
        *arguments,
        copy=copy.path,
        writable_copy=False,
        run=copy.run,
        git_folder=copy.git_folder,
        mirror=copy.mirror,
        env=copy.env,
        accept=accept,
        timeout_s=timeout_s,
    )


def _refuse_suspects(copy: Copy, max_bytes: int) -> None:
    """Raise CommitRefused if one of the suspect files would be committed, or would block git."""
    for path in _run(copy, _FIND_PIPES).stdout.splitlines():
        raise refusals.special(printable(os.fsdecode(path)).removeprefix("./"))
    for path in _run(copy, _FIND_LARGE, str(max_bytes)).stdout.split(b"\0"):
        if path:
            raise refusals.large(os.fsdecode(path), max_bytes)


def check_out(copy: Copy, *, tree: str) -> None:
    """Make the files of the copy those of a tree. Ignored files stay, so that nothing has to be installed again."""
    git.run_in_sandbox(
        _CHECK_OUT,
        tree,
        copy=copy.path,
        writable_copy=True,
        run=copy.run,
        git_folder=copy.git_folder,
        mirror=copy.mirror,
        env=copy.env,
    )


def store(copy: Copy, *, commit: str, ref: str) -> None:
    """Copy a commit from the engine's folder to the mirror, under `ref`. Git checks every object that arrives.

    Raises CommitRefused if git finds an object that would be harmful to check out.
    """
    options = ("-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head")
    try:
        git.run(*options, "--", str(copy.git_folder), commit, at=copy.mirror)
    except git.GitError as error:
        if match := _FSCK.search(error.text):
            raise CommitRefused(f"Git does not accept the change: {match[1]}.", hint="Correct this file.") from error
        raise
    mirrors.set_ref(copy.mirror, ref, commit)


def _changes(copy: Copy, base: str, tree: str) -> Commit:
    raw, more = git.read_up_to(
        MAX_LIST_BYTES, "diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", base, tree, env=copy.read_env
    )
    if more:
        raise CommitRefused(
            f"The attempt changed files with names of more than {MAX_LIST_BYTES:,} bytes together.",
            hint="Ignore generated files in .gitignore.",
        )
    if (count := raw.count(b"\0") // 2) > MAX_FILES:
        raise CommitRefused(
            f"The attempt changed {count:,} files; at most {MAX_FILES:,} are allowed.",
            hint="Ignore generated files in .gitignore.",
        )
    files = tuple(_changed_files(raw))
    lines_added = lines_removed = 0
    try:
        counts, _ = git.read_up_to(
            MAX_LIST_BYTES, "diff-tree", "-r", "-z", "--numstat", "--no-renames", base, tree, env=copy.read_env
        )
    except git.GitError as error:
        if "out of memory" in error.text.lower():
            raise CommitRefused(
                "The files that the attempt changed have too many lines for git to compare.",
                hint="Store large files as artifacts (`outputs`), or ignore them in .gitignore.",
            ) from error
        raise
    for row in counts.split(b"\0"):
        columns = row.split(b"\t")
        if len(columns) == 3 and columns[0] != b"-":  # not a binary file
            lines_added += int(columns[0])
            lines_removed += int(columns[1])
    return Commit(base=base, commit=base, tree=tree, files=files, lines_added=lines_added, lines_removed=lines_removed)


def _changed_files(raw: bytes) -> Iterator[ChangedFile]:
    parts = raw.split(b"\0")
    for facts, path in zip(parts[::2], parts[1::2], strict=False):
        _, mode, _, blob, _ = facts.decode().split(" ")
        yield ChangedFile(path=path.decode("utf-8", "surrogateescape"), mode=mode, blob=blob)


def _check(copy: Copy, files: Collection[ChangedFile], *, max_bytes: int, secret: bytes, merged: Sequence[str]) -> None:
    for file in files:
        if file.mode == GITLINK:
            raise refusals.nested(str(file))
        if secret and secret in os.fsencode(file.path):
            raise CommitRefused("The name of a file contains the attempt's own token.", hint="Rename it.")
    present = [file for file in files if file.mode != MISSING]
    for file in present:
        # Git gives such a name to a file that conflicts with a folder.
        if any(f"~{side}" in file.path for side in merged):
            raise CommitRefused(
                f"{file} is left over from a conflict between a file and a folder.", hint="Rename it, or remove it."
            )
    for file, size in zip(present, _sizes(copy, present), strict=True):
        if size > max_bytes:
            raise refusals.large(file.path, max_bytes)
    markers = [f"\n{mark} {side}".encode() for mark, side in zip(("<<<<<<<", ">>>>>>>"), merged, strict=False)]
    needles = [*markers, *filter(None, [secret])]
    if not needles:
        return
    for file, pieces in zip(present, git.blobs([file.blob for file in present], env=copy.read_env), strict=True):
        contained = _contained(pieces, needles)
        if secret in contained:
            raise CommitRefused(
                f"{file} contains the attempt's own token.", hint="Remove it; the token expires with the attempt."
            )
        if contained:
            raise CommitRefused(f"{file} still contains conflict markers.", hint="Resolve the conflict in this file.")


def _contained(pieces: Iterable[bytes], needles: Sequence[bytes]) -> set[bytes]:
    """The needles that the joined pieces contain. A line break is put in front, for needles that begin with one."""
    contained: set[bytes] = set()
    overlap, end = max(map(len, needles)) - 1, b"\n"
    for piece in pieces:
        text = end + piece
        contained |= {needle for needle in needles if needle in text}
        end = text[-overlap:]
    return contained
