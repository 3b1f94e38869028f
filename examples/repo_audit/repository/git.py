"""Runs git so that a hostile repository cannot make it run programs, write files or use the network.

A repository's configuration can name programs (fsmonitor, hooks, pagers, external diffs, text converters, signature
checkers); each such setting is overridden here. Only objects and the index are read, and no command is used that would
run a clean or smudge filter.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fleet import errors

_OVERRIDES = {
    "safe.directory": "*",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.quotePath": "false",
    "core.attributesFile": os.devnull,
    "core.sshCommand": "false",
    "core.alternateRefsCommand": "true",
    "diff.external": "",
    "diff.renameLimit": "400",
    "log.showSignature": "false",
    "gpg.program": "false",
    "gpg.ssh.program": "false",
    "gpg.x509.program": "false",
    "protocol.allow": "never",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


# The programs that may check a signature. Given on the command line, they take precedence over the environment.
_CHECKERS = ("-c", "gpg.program=gpg", "-c", "gpg.ssh.program=ssh-keygen", "-c", "gpg.x509.program=gpgsm")


def environment() -> dict[str, str]:
    """The complete environment of a git process: PATH, a plain locale, and overrides that no repository can undo."""
    overrides = {"GIT_CONFIG_COUNT": str(len(_OVERRIDES))}
    for number, (key, value) in enumerate(_OVERRIDES.items()):
        overrides[f"GIT_CONFIG_KEY_{number}"] = key
        overrides[f"GIT_CONFIG_VALUE_{number}"] = value
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_PAGER": "cat",
        **overrides,
    }


def root(folder: Path) -> Path:
    """The top folder of the working tree that contains `folder`; Invalid if there is none."""
    hint = "Name the folder of a git checkout: make run REPO=/path/to/it, or --param repository=/path/to/it."
    if not folder.is_dir():
        raise errors.Invalid(f"There is no folder {str(folder)!r} to audit.", hint=hint)
    try:
        completed = _run(folder, "rev-parse", "--is-bare-repository", "--is-inside-work-tree", "--show-toplevel")
    except FileNotFoundError:
        raise errors.Unavailable(
            "git is not installed here.", hint="Install git and start the mission again."
        ) from None
    lines = os.fsdecode(completed.stdout).split("\n")
    if lines[0] == "true":
        bare = f"{str(folder)!r} is a bare git repository, which has no files to read."
        raise errors.Invalid(bare, hint="Clone it (git clone <it> <folder>) and audit the clone.")
    if completed.returncode and (folder / ".git").is_file():
        # The sandbox shows the audit the given folder only.
        raise errors.Invalid(
            f"The git folder of {str(folder)!r} is elsewhere, as in a linked worktree or a submodule, and the audit"
            " cannot read it.",
            hint="Clone it (git clone <it> <folder>) and audit the clone.",
        )
    if completed.returncode or lines[1] != "true":
        raise errors.Invalid(f"{str(folder)!r} is not a git repository.", hint=hint + " `git init` makes it one.")
    top = Path("\n".join(lines[2:]).removesuffix("\n")).resolve()
    if not folder.resolve().is_relative_to(top):
        # core.worktree may point anywhere; files outside the given folder must not be read.
        raise errors.Invalid(
            f"{str(folder)!r} keeps its files elsewhere ({str(top)!r}).", hint="Audit that folder instead."
        )
    return top


def output(repository: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    """git's standard output; Unavailable, with the last line of its error output, if it fails."""
    completed = _run(repository, *arguments, stdin=stdin)
    if completed.returncode:
        messages = completed.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise errors.Unavailable(
            f"git {arguments[0]} failed in {str(repository)!r}: {messages[-1]}", hint="Try `git fsck` there."
        )
    return completed.stdout


def records(repository: Path, *arguments: str, seconds: float, separator: bytes = b"\0") -> Iterator[bytes]:
    """Stream git's output, split at the separator. After `seconds`, git is killed and TimeoutError raised."""
    deadline = time.monotonic() + seconds
    command = ["git", "-C", os.fspath(repository), *arguments]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        rest = b""
        try:
            while block := os.read(process.stdout.fileno(), 1 << 16):
                *complete, rest = (rest + block).split(separator)
                yield from complete
                if time.monotonic() > deadline:
                    raise TimeoutError(f"git {arguments[0]} took longer than {seconds:.0f} s")
            if rest:
                yield rest
        finally:
            process.kill()


class IndexEntry(NamedTuple):
    """One entry of the index: the file's mode (an octal string), the hash of its content, its path as bytes."""

    mode: str
    blob: str
    path: bytes


def tracked(repository: Path) -> list[IndexEntry]:
    """All tracked entries in the order of the index; for a path in conflict only the first stage."""
    entries: dict[bytes, IndexEntry] = {}
    for line in output(repository, "ls-files", "--stage", "-z").split(b"\0"):
        if line:
            head, _, path = line.partition(b"\t")
            mode, blob, _stage = head.decode().split(" ")
            entries.setdefault(path, IndexEntry(mode, blob, path))
    return list(entries.values())


def has_commits(repository: Path) -> bool:
    return _run(repository, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").returncode == 0


def head(repository: Path) -> dict[str, str | int | bool]:
    """The newest commit (hash, subject, time in Unix seconds), the branch, and whether the clone is shallow."""
    commit, seconds, subject = (
        output(repository, "log", "-1", "--format=%H%x00%ct%x00%s").decode(errors="replace").split("\0")
    )
    branch = _run(repository, "symbolic-ref", "--quiet", "--short", "HEAD").stdout.decode(errors="replace").strip()
    shallow = output(repository, "rev-parse", "--is-shallow-repository").strip() == b"true"
    return {"commit": commit, "at": int(seconds), "subject": subject.strip(), "branch": branch, "shallow": shallow}


def is_signed(repository: Path) -> bool:
    """Whether the newest commit has a signature, good or bad (gitformat-signature(5))."""
    headers = output(repository, "cat-file", "commit", "HEAD").partition(b"\n\n")[0]
    return b"\ngpgsig" in headers


def verified(repository: Path) -> tuple[bool, str]:
    """Whether the newest commit's signature is good, and the output of its checker.

    The user decides which keys are trusted, so this command reads the settings and keys below HOME.
    """
    env = {name: value for name, value in environment().items() if name != "GIT_CONFIG_GLOBAL"}
    completed = subprocess.run(
        ["git", "-C", os.fspath(repository), *_CHECKERS, "verify-commit", "HEAD"],
        env=env | {name: os.environ[name] for name in ("HOME", "GNUPGHOME") if name in os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return completed.returncode == 0, completed.stdout.decode(errors="replace").strip()


def _run(repository: Path, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "-C", os.fspath(repository), *arguments],
        env=environment(),
        input=stdin if stdin is not None else b"",
        capture_output=True,
        check=False,
    )
