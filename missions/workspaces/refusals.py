"""Says why the engine does not commit a file, and what to do."""

from __future__ import annotations

import re

from fleet import errors
from missions.workspaces.repositories.git import printable

# What git says about files that it does not add. The first group is the path.
_NESTED = re.compile(r"'(.+)' does not have a commit checked out")
_UNREADABLE = re.compile(
    r"could not open directory '(.+)': Permission denied"
    r'|open\("(.+)"\): Permission denied'
    r"|^(?!bwrap:|find:)(.+): Permission denied$",
    re.M,
)
_SPECIAL = re.compile(r"^error: (.+): can only add regular files", re.M)
_NAME = re.compile(r"^error: [Ii]nvalid path '(.+)'$", re.M)


class CommitRefused(errors.Invalid):
    """The engine refuses to commit the files of the copy. The message says why, and what to do."""


def explain(text: str) -> CommitRefused | None:
    """Why git did not add a file, according to its output; None if the output gives no such reason."""
    if match := _NESTED.search(text):
        return nested(match[1])
    if match := _UNREADABLE.search(text):
        path = next(filter(None, match.groups()))
        return CommitRefused(
            f"{path.rstrip('/')} cannot be read, so it cannot be committed.", hint="Change its mode (chmod)."
        )
    if match := _SPECIAL.search(text):
        return special(match[1])
    if match := _NAME.search(text):
        return CommitRefused(f"Git does not allow the name {match[1]}.", hint="Rename or remove it.")
    return None


def large(path: str, max_bytes: int) -> CommitRefused:
    return CommitRefused(
        f"{printable(path)} is too large: a committed file may have at most {max_bytes:,} bytes (FLEET_COMMIT_BYTES).",
        hint="Store it as an artifact (`outputs`), or ignore it in .gitignore.",
    )


def special(path: str) -> CommitRefused:
    return CommitRefused(f"{path} is not a regular file, so it cannot be committed.", hint="Remove it.")


def nested(path: str) -> CommitRefused:
    return CommitRefused(
        f"{path.rstrip('/')} is a git repository of its own, whose files would not be committed.",
        hint="Remove its .git folder, or ignore it in .gitignore.",
    )
