"""The repository that a plan names: its address, and the commit that a mission starts from. Changes nothing in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fleet import errors
from missions.workspaces.repositories import git, local_repositories

_URL = re.compile(r"(https|ssh)://[^\s-][^\s]*")
_SCP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^\s-][^\s]*")  # git@example.org:app.git
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*:[^/@]*@")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Prints the commit and, without a base, the branch that is checked out.
_RESOLVE = """git rev-parse --verify --quiet --end-of-options "$1"
test -n "$2" || git symbolic-ref --quiet --short HEAD || true"""


def is_address(repository: str) -> bool:
    """Whether it is an https or ssh address rather than a path."""
    return bool(_URL.fullmatch(repository) or _SCP.fullmatch(repository))


def locate(repository: str, *, folder: str) -> str:
    """The absolute path or the address of a repository as a plan writes it. A relative path starts from `folder`.

    Raises Invalid for other kinds of addresses: some of them run programs.
    """
    if is_address(repository):
        if _CREDENTIALS.search(repository):
            raise errors.Invalid(
                "The address of the repository contains a password.",
                hint="Remove it from the plan. Use an ssh key, or the file that FLEET_GIT_CREDENTIALS names.",
                pointer=local_repositories.POINTER,
            )
        return repository
    if repository.startswith("-") or "::" in repository or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", repository):
        raise errors.Invalid(
            f"{repository!r} is neither a path nor an https or ssh address.",
            hint="Write a path, https://… or git@host:path.",
            pointer=local_repositories.POINTER,
        )
    path = os.path.expanduser(repository)
    if not os.path.isabs(path) and not folder:
        raise errors.Invalid(
            f"The repository {repository!r} is relative, and the mission has no folder to start from.",
            hint="Write an absolute path, or launch the mission with a folder.",
            pointer=local_repositories.POINTER,
        )
    return os.path.normpath(os.path.join(folder, path))


def resolve_base(repository: str, base: str) -> tuple[str, str]:
    """The name and the commit of the base of a mission: `base`, or the branch that is checked out.

    Raises Invalid if the repository or the base does not exist; Unavailable if its server does not answer.
    """
    git.require()
    return _resolve_remote(repository, base) if is_address(repository) else _resolve_local(repository, base)


def _resolve_local(repository: str, base: str) -> tuple[str, str]:
    try:
        local = local_repositories.find(repository)
    except local_repositories.RepositoryMissing as error:
        if (top := local_repositories.above(Path(repository))) and Path(repository).is_dir():
            raise errors.Invalid(
                f"{repository} is not the root of a git repository; it is in the repository {top}.",
                hint=f"Use {top}, and set cwd for the sorties that work in the folder.",
                pointer=local_repositories.POINTER,
            ) from error
        raise errors.Invalid(
            f"There is no git repository at {repository}.",
            hint=f"Create one (git init {repository}), or name another.",
            pointer=local_repositories.POINTER,
        ) from error
    try:
        resolved = local.git("rev-parse", f"{base or 'HEAD'}^{{commit}}", base, script=_RESOLVE)
    except git.GitError as error:
        raise errors.Unavailable(f"The repository {repository} cannot be read: {error.text}.") from error
    if resolved.returncode > 1 or resolved.stderr.startswith(b"bwrap:"):
        reason = resolved.stderr.decode("utf-8", "replace").strip()[-300:]
        raise errors.Unavailable(f"The repository {repository} cannot be read: {reason}")
    commit, _, branch = resolved.stdout.decode("utf-8", "surrogateescape").partition("\n")
    if resolved.returncode:
        message = (
            f"{base!r} is not a branch, tag or commit of {repository}." if base else f"{repository} has no commits."
        )
        hint = "Name one that exists." if base else "Commit something first."
        raise errors.Invalid(message, hint=hint, pointer="/plan/workspace/base")
    return base or branch.strip() or commit[:12], commit


def _resolve_remote(repository: str, base: str) -> tuple[str, str]:
    if _COMMIT.fullmatch(base):
        return base, base
    try:
        text = git.run("ls-remote", "--symref", "--", repository, timeout_s=60).decode("utf-8", "replace")
    except git.GitError as error:
        raise errors.Unavailable(f"The repository {repository} cannot be read: {error.text[-300:]}") from error
    commits: dict[str, str] = {}
    for row in text.splitlines():
        value, _, name = row.partition("\t")
        if value.startswith("ref: ") and name == "HEAD" and not base:
            base = value.removeprefix("ref: refs/heads/")
        elif name:
            commits[name] = value
    for name in (f"refs/heads/{base}", f"refs/tags/{base}^{{}}", f"refs/tags/{base}"):
        if name in commits:
            return base, commits[name]
    raise errors.Invalid(
        f"{base!r} is not a branch or tag of {repository}." if base else f"{repository} has no commits.",
        hint="Name one that exists, or a full commit id.",
        pointer="/plan/workspace/base",
    )
