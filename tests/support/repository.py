"""A git repository of a user, and the branch of a mission on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import ids
from missions.models import Mission, Workspace
from missions.workspaces import commits, copies
from missions.workspaces.repositories import git, mirrors

USER = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_COMMITTER_NAME": "Ada"}


@dataclass(frozen=True)
class Repository:
    """A checkout at `path`, with the branch `main`."""

    path: Path

    def git(self, *arguments: str) -> str:
        env = {**os.environ, **USER, "GIT_COMMITTER_EMAIL": "ada@example.org", "GIT_CONFIG_GLOBAL": "/dev/null"}
        completed = subprocess.run(
            ["git", *arguments], cwd=self.path, env=env, capture_output=True, text=True, check=True
        )
        return completed.stdout.strip()

    def commit(self, files: Mapping[str, str], message: str = "Change files") -> str:
        """Write these files and commit them; returns the commit."""
        for name, text in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")


def create(path: Path, files: Mapping[str, str]) -> Repository:
    path.mkdir(parents=True, exist_ok=True)
    repository = Repository(path)
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.commit(files, "Begin")
    return repository


def clone_bare(project: Repository, path: Path) -> Repository:
    """A bare clone of a repository, without a checkout."""
    project.git("clone", "--quiet", "--bare", str(project.path), str(path))
    return Repository(path)


def branch(mission: Mission) -> Branch:
    workspace = Workspace.objects.get(mission=mission)
    return Branch(mirrors.of(workspace.repository), workspace.branch, workspace.base_commit)


@dataclass(frozen=True)
class Branch:
    """The branch of a mission in the fleet's mirror."""

    mirror: Path
    name: str
    base: str

    @property
    def tip(self) -> str:
        return git.line("rev-parse", f"refs/heads/{self.name}", at=self.mirror)

    def files(self) -> list[str]:
        return git.line("ls-tree", "-r", "--name-only", self.tip, at=self.mirror).splitlines()

    def read(self, path: str) -> str:
        return git.run("show", f"{self.tip}:{path}", at=self.mirror).decode()

    def subjects(self) -> list[str]:
        """The subjects of the commits after the base, the oldest first."""
        return git.line("log", "--reverse", "--format=%s", f"{self.base}..{self.tip}", at=self.mirror).splitlines()


@dataclass(frozen=True)
class SortieCopy:
    """A copy of a repository as the engine makes it for a sortie, without rows. `attempt`: of its commits."""

    copy: copies.Copy
    attempt: int = 1

    @property
    def path(self) -> Path:
        return self.copy.path

    @property
    def ref(self) -> str:
        return f"{mirrors.ATTEMPTS}/{self.path.name}/{self.attempt}"

    def sh(self, script: str) -> str:
        """Run a shell script in the copy, as work without a sandbox would."""
        env = {**os.environ, **USER, "GIT_COMMITTER_EMAIL": "ada@example.org", "GIT_CONFIG_GLOBAL": "/dev/null"}
        completed = subprocess.run(
            ["/bin/sh", "-euc", script], cwd=self.path, env=env, capture_output=True, text=True, check=True
        )
        return completed.stdout

    def commit(self, *, base: str = "", max_bytes: int = 1_000_000, **options: Any) -> commits.Commit:
        message = commits.Message(author="backend", subject="edit: A test", trailers={"Fleet-Sortie": "edit srt_1"})
        with copies.lock(self.copy, attempt=self.attempt):
            return commits.commit(
                self.copy,
                base=base or self.copy.base,
                message=message,
                ref=self.ref,
                max_bytes=max_bytes,
                **options,
            )


def sortie_copy(repository: Repository, *, tip: str = "", branch: str = "fleet/test", tree: str = "") -> SortieCopy:
    """A new copy of the repository for a sortie, at the commit `tip` (default: that of its branch)."""
    base = repository.git("rev-parse", "HEAD")
    store = mirrors.ensure(str(repository.path), commit=base)
    tip = tip or mirrors.tip(store, branch, start=base)
    copy = SortieCopy(copies.of(sortie=ids.new(), mirror=store))
    copies.make(copy.copy, branch=branch, tip=tip, author="backend", tree=tree)
    return copy
