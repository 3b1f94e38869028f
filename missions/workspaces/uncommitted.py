"""Captures the uncommitted work of a running attempt as a commit that is on no branch, without disturbing the attempt.

Git works with a separate folder and index, in a sandbox that can only read the copy. The index starts as a copy of the
engine's current one, so that git reads only files that have changed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from fleet import errors
from missions.workspaces import branches, commits, copies
from missions.workspaces.commits import Message
from missions.workspaces.copies import Copy
from missions.workspaces.repositories import git

MAX_LISTED = 100  # files that were left out

# Adds all files except ignored and large ones, and those of other repositories. A file that changes or disappears
# during this is left out (exit code 1). Then prints the tree, the ignored files and the other files that are left out.
_WRITE_TREE = r"""
if find . -path ./.git -prune -o -type p -name '.git*' -print 2> /dev/null | grep -q .; then
  echo "a pipe has the name of a file that git reads" >&2; exit 2
fi
test -f "$GIT_INDEX_FILE" || git read-tree "$2"
{ printf '.\0'; find . -path ./.git -prune -o -type f -size +"$1"c -printf ':(exclude,literal)%p\0' \
    -o -path './*/.git' -prune -printf ':(exclude,literal)%h\0'; } > "$HOME/files" 2> /dev/null || true
git ls-files -sz | sed -zn 's/^160000 [^\t]*\t//p' > "$HOME/submodules"  # see commits.py
git update-index -z --skip-worktree --stdin < "$HOME/submodules"
git add --all --ignore-errors --pathspec-from-file="$HOME/files" --pathspec-file-nul || test $? -eq 1
git write-tree
git ls-files -z --others --modified --exclude-standard --directory
printf '\0'
git ls-files -z --others --ignored --exclude-standard --directory
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UncommittedWork:
    """The files of a copy as a commit on `base`; equal to `base` if nothing has changed.

    `ignored` and `left_out` name at most MAX_LISTED files each that are not in it. Folders end with a slash.
    """

    base: str
    commit: str
    ignored: tuple[str, ...]
    left_out: tuple[str, ...]  # too large, of another repository, or unreadable


def save(copy: Copy, *, message: Message, ref: str, max_bytes: int, deadline: float) -> UncommittedWork:
    """Store the files of a copy in the mirror under `ref`, without those of more than `max_bytes`.

    Raises a FleetError or OSError, for example if the copy is being built or removed, or if its files cannot be read
    before `deadline` (of the monotonic clock).
    """
    _seconds_left(deadline)
    base = copy.base
    with copies.reader(copy) as draft:
        try:
            output = _write_tree(draft, base, max_bytes, deadline)
        except git.GitError:  # the engine is committing, so its index names objects that only it has
            draft.index.unlink(missing_ok=True)
            output = _write_tree(draft, base, max_bytes, deadline)
        tree, _, rest = output.partition(b"\n")
        left_out, _, ignored = rest.partition(b"\0\0") if not rest.startswith(b"\0") else (b"", b"", rest[1:])
        commit = base
        if tree.decode() != branches.tree_of(copy.mirror, base):
            commit = git.line(
                "commit-tree",
                tree.decode(),
                "-p",
                base,
                env={**draft.read_env, **message.env()},
                stdin=message.text().encode(),
            )
            commits.store(draft, commit=commit, ref=ref)
    return UncommittedWork(base=base, commit=commit, ignored=_names(ignored), left_out=_names(left_out))


def _seconds_left(deadline: float) -> float:
    """The seconds until `deadline`. Raises Unavailable if it has passed."""
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0:
        raise errors.Unavailable(
            "There was not enough time to read the files of the copy.",
            hint="Ignore large generated files in .gitignore, or raise FLEET_CHECKPOINT_WORK_S.",
        )
    return remaining_s


def _write_tree(draft: Copy, base: str, max_bytes: int, deadline: float) -> bytes:
    return git.run_in_sandbox(
        _WRITE_TREE,
        str(max_bytes),
        base,
        copy=draft.path,
        writable_copy=False,
        run=draft.run,
        git_folder=draft.git_folder,
        mirror=draft.mirror,
        env={**draft.env, "GIT_LITERAL_PATHSPECS": "0"},  # the script excludes files by their patterns
        timeout_s=min(git.TIMEOUT_S, _seconds_left(deadline)),
    ).stdout


def _names(output: bytes) -> tuple[str, ...]:
    names = (name.decode("utf-8", "replace") for name in output.split(b"\0") if name)
    return tuple(sorted(names)[:MAX_LISTED])
