"""An attempt can pass a descriptor of its copy to another attempt (SCM_RIGHTS), which may still be running later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet import errors
from missions.workspaces import copies
from tests.support import repository

ROUNDS = 100
# Puts a link in the place of `.git` whenever that is possible.
REPLACE = """
import os, sys
folder, target = int(sys.argv[1]), sys.argv[2]
print("started", flush=True)
while True:
    for call in (lambda: os.symlink(target, ".git", dir_fd=folder), lambda: os.unlink(".git", dir_fd=folder)):
        try:
            call()
        except OSError:
            pass
"""


@contextmanager
def another_attempt(copy: Path, target: Path) -> Iterator[None]:
    """A process that has a descriptor of the copy, and replaces `.git` in it by a link to `target`."""
    descriptor = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
    arguments = ["python3", "-c", REPLACE, str(descriptor), str(target)]
    with subprocess.Popen(arguments, pass_fds=[descriptor], stdout=subprocess.PIPE) as process:
        os.close(descriptor)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            yield
        finally:
            process.kill()


def test_a_link_in_the_place_of_a_new_repository_leads_the_engine_nowhere(tmp_path: Path) -> None:
    sortie = repository.sortie_copy(repository.create(tmp_path / "project", {"app.py": "one\n"}))
    target = tmp_path / "target"
    target.mkdir()
    (target / "config").write_text("Host mine\n")
    with copies.lock(sortie.copy, attempt=1), another_attempt(sortie.path, target):
        for _ in range(ROUNDS):
            with suppress(OSError, errors.Unavailable):
                copies.renew_repository(sortie.copy, branch="fleet/test", commit=sortie.copy.base)
            assert [path.name for path in target.iterdir()] == ["config"]
    assert (target / "config").read_text() == "Host mine\n"


def test_a_new_repository_replaces_that_of_the_attempt(tmp_path: Path) -> None:
    sortie = repository.sortie_copy(repository.create(tmp_path / "project", {"app.py": "one\n"}))
    sortie.sh("git config core.pager attack; git config user.name Mallory")
    with copies.lock(sortie.copy, attempt=1):
        copies.renew_repository(sortie.copy, branch="fleet/test", commit=sortie.copy.base)
    assert sortie.sh("git config user.name; git status --porcelain") == "Fleet\n"
    assert not [*sortie.path.parent.glob(f"{copies.READER}*")]
