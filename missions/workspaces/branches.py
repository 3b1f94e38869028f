"""The branches of a mirror: merges a change onto the tip of one, and moves it.

A merge becomes one commit whose parent is the tip: the history of the branch is linear, with one commit per sortie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from fleet import ids
from missions.workspaces.commits import Message
from missions.workspaces.repositories import git, mirrors


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedTree:
    """A merged tree. If it is not clean, `files` have conflicts, and the tree contains them with conflict markers."""

    tree: str
    clean: bool
    files: tuple[str, ...] = ()
    text: str = ""


class LaneLost(Exception):
    """The branch or its lane now belongs to another attempt, so this one may not move it."""


def merge(mirror: Path, *, onto: str, commit: str) -> MergedTree:
    """Merge a commit onto a tip, without touching any file or ref."""
    words = ("merge-tree", "--write-tree", "-z", "--name-only", "--messages", onto, commit)
    completed = git.execute(*words, at=mirror)
    if completed.returncode not in (0, 1):
        raise git.GitError(
            arguments=words, exit_code=completed.returncode, text=completed.stderr.decode("utf-8", "replace")
        )
    clean = completed.returncode == 0  # renamed folders can conflict without any file in conflict
    parts = completed.stdout.decode("utf-8", "surrogateescape").split("\0")
    tree, rest = parts[0].strip(), parts[1:]
    if "" not in rest:  # without messages
        return MergedTree(tree=tree, clean=clean)
    separator = rest.index("")
    files, messages = tuple(dict.fromkeys(rest[:separator])), rest[separator + 1 :]
    return MergedTree(tree=tree, clean=clean, files=files, text=git.printable("\n".join(_messages(messages))))


def _messages(parts: list[str]) -> list[str]:
    """The texts of git's messages. Each message is a number of paths, these paths, a kind and a text."""
    texts, place = [], 0
    while place < len(parts) and parts[place].isdigit():
        text = place + int(parts[place]) + 2
        if text >= len(parts):
            break
        if not parts[text].startswith("Auto-merging"):
            texts.append(parts[text].strip())
        place = text + 1
    return texts


def tree_of(mirror: Path, commit: str) -> str:
    return git.line("rev-parse", "--verify", f"{commit}^{{tree}}", at=mirror)


def create_commit(mirror: Path, *, tree: str, parent: str, message: Message, second_parent: str = "") -> str:
    """Create a commit with this tree on `parent`, and on `second_parent` for a merge. No ref points to it yet."""
    parents = ("-p", parent, *(("-p", second_parent) if second_parent else ()))
    return git.line("commit-tree", tree, *parents, at=mirror, env=message.env(), stdin=message.text().encode())


def landed_since(
    mirror: Path, *, base: str, tip: str, files: Sequence[str] = (), limit: int = 50
) -> list[dict[str, str]]:
    """The commits of the branch after `base`, the newest first: sortie, commit and subject.

    `files`: only those that changed one of these files.
    """
    form = "%H%x00%(trailers:key=Fleet-Sortie,valueonly,separator=%x2C)%x00%s"
    options = (f"--max-count={limit}", f"--format={form}")
    text = git.line("log", *options, f"{base}..{tip}", "--", *files, at=mirror)
    rows = [row.split("\0") for row in text.split("\n") if row]  # splitlines would split at more than line breaks
    return [{"commit": row[0], "sortie": row[1], "subject": row[2]} for row in rows if len(row) == 3]


def lane_content(mirror: Path, *, sortie: UUID, attempt: int) -> str:
    """The object that a lane's ref points to while this attempt has the lane."""
    text = f"{ids.encode(ids.SORTIE, sortie)}/{attempt}\n"
    return git.line("hash-object", "-w", "--stdin", at=mirror, stdin=text.encode())


def read_lane(mirror: Path, branch: str) -> str:
    """The object that the lane's ref points to; "" if it does not exist."""
    return mirrors.read_ref(mirror, f"{mirrors.LANES}/{branch}")


def write_lane(mirror: Path, branch: str, *, content: str, expected: str) -> None:
    """Give the lane to another attempt. Raises LaneLost if it no longer has the `expected` content."""
    ref = f"{mirrors.LANES}/{branch}"
    try:
        mirrors.write_refs(mirror, f"update {ref} {content} {expected or '0' * len(content)}\n")
    except git.GitError as error:
        if read_lane(mirror, branch) != expected:
            raise LaneLost(str(error)) from error
        raise


def move(mirror: Path, *, branch: str, lane: str, tip: str, to: str) -> None:
    """Move the branch from `tip` to `to` if the lane has the content `lane`. Otherwise raises LaneLost."""
    ref = f"refs/heads/{branch}"
    try:
        mirrors.write_refs(mirror, f"verify {mirrors.LANES}/{branch} {lane}\nupdate {ref} {to} {tip}\n")
    except git.GitError as error:
        if read_lane(mirror, branch) != lane or mirrors.read_ref(mirror, ref) != tip:
            raise LaneLost(str(error)) from error
        raise
