"""`python -m examples.repo_audit PATH`: check that PATH can be audited, before `make run` starts anything."""

from __future__ import annotations

import sys
from pathlib import Path

from examples.repo_audit.repository import git
from fleet import errors


def check(path: str) -> None:
    """Raise Invalid unless `path` is a folder of a git checkout."""
    if not path.strip():
        raise errors.Invalid("REPO is empty.", hint="Name the folder of a git checkout: make run REPO=/path/to/it.")
    try:
        path.encode()
        git.root(Path(path).expanduser())
    except UnicodeEncodeError:
        raise errors.Invalid(
            f"{path!r} is not UTF-8.", hint="Use a UTF-8 path, such as a symbolic link to it."
        ) from None


if __name__ == "__main__":
    try:
        check(sys.argv[1])
    except errors.FleetError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
