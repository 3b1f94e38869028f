"""The user's repository as the target of a merge: its branches are moved, and nothing else in it is touched.

A repository with a checkout gets commits by a fetch, in which git itself refuses to move a branch that is checked out.
Bare repositories and those on a server get them by a push, so that their hooks decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet import errors
from missions.workspaces import git, repositories

# Whatever the repository's own configuration says: no other ref is written, and no program that it names runs.
_FETCH = (
    *("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "fetch.writeCommitGraph=false"),
    *("-c", "fetch.bundleURI=", "-c", "credential.helper="),  # a server of bundles may ask for a password
    *("-c", "core.alternateRefsCommand=true", "fetch", "--quiet", "--upload-pack=git-upload-pack"),
    *("--no-tags", "--no-write-fetch-head", "--no-prune", "--no-prune-tags", "--no-recurse-submodules"),
)
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
        return repositories.is_address(self.repository)

    @property
    def is_bare(self) -> bool:
        """Whether it is a bare repository on this host. One with a checkout is not, whatever its configuration says."""
        return not self.is_address and git.line("rev-parse", "--git-dir", at=self._path) == "."

    def tip(self) -> str:
        """The newest commit of the branch; "" if it does not exist. Raises Unavailable if the repository cannot be read."""
        try:
            if self.is_address:
                text = git.run("ls-remote", "--", self.repository, self.ref, timeout_s=60).decode("utf-8", "replace")
                commits = [line.partition("\t")[0] for line in text.splitlines() if line.endswith(f"\t{self.ref}")]
                return commits[0] if commits else ""
            git.run("rev-parse", "--git-dir", at=self._path)
        except git.GitError as error:
            raise errors.Unavailable(f"The repository {self.repository} cannot be read: {error.text[-300:]}") from error
        completed = git.execute("rev-parse", "--verify", "--quiet", f"{self.ref}^{{commit}}", at=self._path)
        return completed.stdout.decode().strip() if completed.returncode == 0 else ""

    def checked_out_in(self) -> str:
        """The folder in which the branch is checked out; "" if it is not checked out anywhere that the fleet can see."""
        if self.is_address:
            return ""
        folder = ""
        for line in (
            git.run("worktree", "list", "--porcelain", "-z", at=self._path).decode("utf-8", "replace").split("\0")
        ):
            name, _, value = line.partition(" ")
            if name == "worktree":
                folder = value
            elif name == "branch" and value == self.ref:
                return folder
        return ""

    def receive(self, store: Path, *, commit: str) -> None:
        """Create the branch at a commit of the mirror `store`, or move it forward. Raises Rejected if that fails."""
        if self.is_address or self.is_bare:
            self._push(store, commit)
            return
        # Without `+`, git only fast-forwards.
        env = {"GIT_ALLOW_PROTOCOL": "file"}
        completed = git.execute(*_FETCH, "--", str(store), f"{commit}:{self.ref}", at=self._path, env=env)
        if completed.returncode:
            raise Rejected(f"{self.repository} rejected the commit: {_reason(completed.stderr)}")

    def _push(self, store: Path, commit: str) -> None:
        completed = git.execute(
            *_PUSH,
            "--",
            self.repository,
            f"{commit}:{self.ref}",
            at=store,
            env={"GIT_CONFIG_GLOBAL": str(git.PUSH_CONFIGURATION)},
            timeout_s=git.NETWORK_TIMEOUT_S,
        )
        if completed.returncode:
            raise Rejected(f"{self.repository} rejected the commit: {_reason(completed.stderr + completed.stdout)}")

    @property
    def _path(self) -> Path:
        return Path(self.repository)


def is_branch_name(name: str) -> bool:
    """Whether a branch may have this name. `HEAD` and `refs/…` would be ambiguous in every later command of git."""
    if name.startswith(("-", "refs/")) or name == "HEAD":
        return False
    return git.execute("check-ref-format", f"refs/heads/{name}").returncode == 0


def _reason(output: bytes) -> str:
    """The messages of git and of the repository's hooks: at most ten lines, without git's advice."""
    lines = [line.removeprefix("remote:").strip() for line in output.decode("utf-8", "replace").splitlines()]
    reasons = [
        line for line in lines if line and not line.startswith(("hint:", "To ", "Done", "Everything up-to-date"))
    ]
    return " ".join(dict.fromkeys(reasons[:10]))[:1_000] or "git gave no reason."
