"""The user's repository as the target of a merge: its branches are moved, and nothing else in it is touched.

A repository with a checkout gets commits by a fetch, in which git itself refuses to move a branch that is checked out.
Bare repositories and those on a server get them by a push, so that their hooks decide. On this host, both run in the
sandbox of `local_repositories`, the hooks too.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fleet import errors
from missions.workspaces.repositories import git, git_environment, local_repositories, sources

# Whatever the repository's own configuration says: no other ref is written, and no program that it names runs.
_FETCH = (
    *("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "fetch.writeCommitGraph=false"),
    *("-c", "fetch.bundleURI=", "-c", "credential.helper="),  # a server of bundles may ask for a password
    *("-c", "core.alternateRefsCommand=true", "fetch", "--quiet", "--upload-pack=git-upload-pack"),
    *("--no-tags", "--no-write-fetch-head", "--no-prune", "--no-prune-tags", "--no-recurse-submodules"),
)
# Options of `git push` do not apply to the program that receives.
_RECEIVE_PACK = "--receive-pack=git -c core.logAllRefUpdates=false -c gc.auto=0 -c receive.autogc=false receive-pack"
_FILE_NAME_BYTES = 255  # the limit of the file systems of Linux
_PUSH = ("push", "--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no")


class Rejected(errors.Conflict):
    """The repository does not accept the commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A branch of the user's repository; `repository` is an absolute path, or an https or ssh address."""

    repository: str
    branch: str

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def is_address(self) -> bool:
        return sources.is_address(self.repository)

    @property
    def is_bare(self) -> bool:
        """Whether it is a bare repository on this host. One with a checkout is not, whatever its configuration says."""
        return not self.is_address and local_repositories.find(self.repository).is_bare

    def tip(self) -> str:
        """The newest commit of the branch; "" if it does not exist. Raises Unavailable if it cannot be read."""
        try:
            if self.is_address:
                text = git.run("ls-remote", "--", self.repository, self.ref, timeout_s=60).decode("utf-8", "replace")
                commits = [line.partition("\t")[0] for line in text.splitlines() if line.endswith(f"\t{self.ref}")]
                return commits[0] if commits else ""
            completed = local_repositories.find(self.repository).git(
                "rev-parse", "--verify", "--quiet", f"{self.ref}^{{commit}}"
            )
        except (git.GitError, local_repositories.RepositoryMissing) as error:
            raise errors.Unavailable(f"The repository {self.repository} cannot be read: {str(error)[-300:]}") from error
        if completed.returncode and (completed.returncode != 1 or completed.stderr):
            reason = completed.stderr.decode("utf-8", "replace").strip()[-300:]
            raise errors.Unavailable(f"The repository {self.repository} cannot be read: {reason}")
        return completed.stdout.decode().strip()

    def namesake(self) -> str:
        """A tag or a remote-tracking branch with the same short name; "" if the fleet can see none."""
        if self.is_address:
            return ""
        names = (f"refs/tags/{self.branch}", f"refs/remotes/{self.branch}")
        completed = local_repositories.find(self.repository).git("for-each-ref", "--format=%(refname)", *names)
        found = completed.stdout.decode("utf-8", "replace").split("\n")
        return next((name for name in names if name in found), "")

    def checked_out_in(self) -> str:
        """The folder in which the branch is checked out; "" if the fleet can see none."""
        if self.is_address:
            return ""
        folder = ""
        completed = local_repositories.find(self.repository).git("worktree", "list", "--porcelain", "-z")
        if completed.returncode:
            reason = completed.stderr.decode("utf-8", "replace").strip()[-300:]
            raise errors.Unavailable(f"The worktrees of {self.repository} cannot be listed: {reason}")
        for line in completed.stdout.decode("utf-8", "replace").split("\0"):
            name, _, value = line.partition(" ")
            if name == "worktree":
                folder = value
            elif name == "branch" and value == self.ref:
                return folder
        return ""

    def receive(self, mirror: Path, *, commit: str) -> None:
        """Create the branch at a commit of the mirror, or move it forward. Raises Rejected if that fails."""
        update = f"{commit}:{self.ref}"
        if self.is_address:
            completed = git.execute(
                *(*_PUSH, "--", self.repository, update),
                at=mirror,
                env={"GIT_CONFIG_GLOBAL": str(git_environment.PUSH_CONFIGURATION)},
                timeout_s=git.NETWORK_TIMEOUT_S,
            )
        else:
            completed = self._receive_here(mirror, update)
        if completed.returncode:
            raise Rejected(f"{self.repository} rejected the commit: {_reason(completed.stderr + completed.stdout)}")

    def _receive_here(self, mirror: Path, update: str) -> subprocess.CompletedProcess[bytes]:
        local = local_repositories.find(self.repository)
        if local.is_bare:
            completed = local.git(
                *(*_PUSH, _RECEIVE_PACK, "--", str(local.path), update),
                env={"GIT_DIR": str(mirror), "GIT_CONFIG_GLOBAL": str(git_environment.PUSH_CONFIGURATION)},
                mirror=mirror,
                writable=True,
                ignore_setgid=True,
                timeout_s=git.NETWORK_TIMEOUT_S,
            )
            if os.geteuid() == 0:
                local.share_folders()
            return completed
        # Without `+`, git only fast-forwards. No program of the repository runs, so no filter is needed: for root, it
        # would refuse the modes of a shared repository.
        return local.git(
            *(*_FETCH, "--", str(mirror), update),
            env={"GIT_ALLOW_PROTOCOL": "file"},
            mirror=mirror,
            writable=True,
            filtered=False,
            timeout_s=git.TIMEOUT_S,
        )


def require_branch_name(name: str, *, pointer: str) -> None:
    """Raise Invalid if no branch can have this name. `pointer`: where the request has it.

    `HEAD` and `refs/…` would be ambiguous in every later command of git. Git stores a branch as a file, and locks it
    with another one, whose name ends with `.lock`.
    """
    git.require()
    ambiguous = name.startswith(("-", "refs/")) or name == "HEAD"
    too_long = any(len(os.fsencode(f"{part}.lock")) > _FILE_NAME_BYTES for part in name.split("/"))
    if ambiguous or too_long or git.execute("check-ref-format", f"refs/heads/{name}").returncode:
        raise errors.Invalid(
            f"{name!r} is not a valid name for a branch.", hint="Use a name such as next.", pointer=pointer
        )


def _reason(output: bytes) -> str:
    """The messages of git and of the repository's hooks: at most ten lines, without git's advice."""
    lines = [line.removeprefix("remote:").strip() for line in output.decode("utf-8", "replace").splitlines()]
    reasons = [
        line for line in lines if line and not line.startswith(("hint:", "To ", "Done", "Everything up-to-date"))
    ]
    return " ".join(dict.fromkeys(reasons[:10]))[:1_000] or "git gave no reason."
