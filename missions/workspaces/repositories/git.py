"""Runs git without the configuration of the host, of a user or of an agent, and without hooks.

`run` is for repositories that only the fleet writes to, and for those on a server. Whatever reads a copy that an agent
has worked in goes through `run_in_sandbox`: there it sees that copy and the mirror, and nothing else of the host. For
the repositories of users on this host, see `local_repositories`.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import IO

from django.conf import settings

from agents.confinement import bubblewrap
from agents.confinement.host_paths import PathRefused
from agents.confinement.view import View
from fleet import errors, humanise
from fleet.host import trusted_programs
from missions import hidden_folders
from missions.workspaces.repositories import git_environment

MIN_VERSION = (2, 38)  # the first with `merge-tree --write-tree`
TIMEOUT_S = 120.0
NETWORK_TIMEOUT_S = 900.0
PIECE_BYTES = 1_000_000
PIPE_BYTES = 64 * 1024  # the capacity of a pipe
MAX_OUTPUT_BYTES = 100_000_000  # of a command whose output is read completely. Workloads choose how long paths are
# Memory of one process of git (RLIMIT_DATA), in units of 1 KiB, where files of workloads decide how much it needs: about
# 40 bytes for each line that it compares (git 2.39), three times as much to merge, and 70 for each pattern of a .gitignore.
MEMORY_KB = 2_000_000
_LIMIT_MEMORY = f"ulimit -d {MEMORY_KB} 2>/dev/null || :\n"  # a lower limit may apply already
_COMPARING = ("diff-tree", "merge-tree")  # commands that compare the contents of files
_LOCKED = re.compile(r"Unable to create '([^\n]+\.lock)': File exists")


class GitError(errors.FleetError):
    """A git command failed. `process_code` is its exit code, and `text` the last lines that it printed."""

    def __init__(self, *, arguments: Sequence[str], exit_code: int, text: str) -> None:
        self.process_code, self.text = exit_code, text.strip()
        lines = self.text.splitlines()[-5:] or [f"exit code {exit_code}"]
        command = next((word for word in arguments if not word.startswith("-") and "=" not in word), "")
        super().__init__(f"git {command} failed: {' '.join(lines)}")

    @property
    def lock_files(self) -> tuple[Path, ...]:
        """The git lock files that already existed, so that the command did not run."""
        return tuple(map(Path, _LOCKED.findall(self.text)))


def printable(path: str) -> str:
    """A path as text that the database can store: bytes that are not UTF-8 are replaced."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\x00", "")


@cache
def version() -> tuple[int, int]:
    """The version of git; (0, 0) if there is none."""
    try:
        text = subprocess.run(
            ["git", "--version"],
            env={"PATH": trusted_programs.path_variable()}, capture_output=True, text=True, timeout=10, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return 0, 0
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def require() -> None:
    """Raise Unavailable if git is missing or too old."""
    if version() < MIN_VERSION:
        min_version = ".".join(map(str, MIN_VERSION))
        installed = (
            "no git is installed in the system's folders"
            if version() == (0, 0)
            else f"found {'.'.join(map(str, version()))}"
        )
        raise errors.Unavailable(
            f"Workspaces need git {min_version} or newer; {installed}.", hint="Install a newer git here."
        )


def run(
    *arguments: str,
    at: Path | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
    timeout_s: float = TIMEOUT_S,
    pass_fds: Sequence[int] = (),
) -> bytes:
    """Run git in the repository `at`; returns its output. Raises GitError if the exit code is not in `accept`."""
    completed = execute(*arguments, at=at, stdin=stdin, env=env, timeout_s=timeout_s, pass_fds=pass_fds)
    return _output(completed, arguments, accept)


def execute(
    *arguments: str,
    at: Path | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run git; returns the completed process, whatever its exit code. Raises GitError after `timeout_s`."""
    argv, environment = _command_line(arguments, at, env)
    return run_to_end(argv, arguments, environment, timeout_s, pass_fds, stdin=stdin)


def _command_line(
    arguments: Sequence[str], at: Path | None, env: Mapping[str, str] | None
) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of a git command in the repository `at`."""
    environment = {**git_environment.default(), **(env or {})}
    program = ["/bin/sh", "-c", f'{_LIMIT_MEMORY}exec "$0" "$@"', "git"] if arguments[0] in _COMPARING else ["git"]
    if at is None:
        return [*program, *git_environment.OPTIONS, *arguments], environment
    # If there is no repository, git must not use one in a parent folder.
    environment["GIT_CEILING_DIRECTORIES"] = str(at.resolve().parent)
    return [*program, *git_environment.OPTIONS, "-C", str(at), *arguments], environment


def line(*arguments: str, at: Path | None = None, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> str:
    """Run git; returns its output as one stripped text."""
    return run(*arguments, at=at, env=env, stdin=stdin).decode("utf-8", "surrogateescape").strip()


def read_up_to(
    max_bytes: int,
    *arguments: str,
    at: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[bytes, bool]:
    """Run git; returns the first `max_bytes` of its output, and whether there is more. Git is killed after that."""
    argv, environment = _command_line(arguments, at, env)
    with tempfile.TemporaryFile() as stderr_file:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr_file,
                env=environment,
            )
        except OSError as error:
            raise GitError(arguments=arguments, exit_code=-1, text=f"it cannot be started: {error.strerror}") from error
        timer = threading.Timer(TIMEOUT_S, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            output = process.stdout.read(max_bytes + 1)
            if len(output) > max_bytes:
                return output[:max_bytes], True
            if process.wait() != 0:
                stderr_file.seek(0)
                text = stderr_file.read(10_000).decode("utf-8", "replace") or "it took too long"
                raise GitError(arguments=arguments, exit_code=process.returncode, text=text)
            return output, False
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def stream(
    *arguments: str, at: Path | None = None, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> Iterator[bytes]:
    """Run git, and yield its output in chunks. Raises GitError at the end if it fails."""
    argv, environment = _command_line(arguments, at, env)
    with tempfile.TemporaryFile() as stdin_file, tempfile.TemporaryFile() as stderr_file:
        stdin_file.write(stdin)
        stdin_file.seek(0)
        with subprocess.Popen(
            argv, stdin=stdin_file, stdout=subprocess.PIPE, stderr=stderr_file, env=environment
        ) as process:
            assert process.stdout is not None
            try:
                while piece := process.stdout.read(PIECE_BYTES):
                    yield piece
                if process.wait() != 0:
                    stderr_file.seek(0)
                    text = stderr_file.read(10_000).decode("utf-8", "replace")
                    raise GitError(arguments=arguments, exit_code=process.returncode, text=text)
            finally:
                process.kill()


def stream_lines(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", separator: bytes = b"\n"
) -> Iterator[bytes]:
    """Run git, and yield the lines of its output as they arrive. Raises GitError at the end if it fails."""
    rest = b""
    for piece in stream(*arguments, env=env, stdin=stdin):
        *lines, rest = (rest + piece).split(separator)
        yield from lines
    if rest:
        yield rest


def blobs(names: Sequence[str], *, env: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
    """The content of each of these blobs, in chunks. Read all chunks of a blob before you take the next one."""
    with tempfile.TemporaryFile() as names_file, tempfile.TemporaryFile() as stderr_file:
        names_file.write("".join(f"{name}\n" for name in names).encode())
        names_file.seek(0)
        argv = ["git", *git_environment.OPTIONS, "cat-file", "--batch"]
        environment = {**git_environment.default(), **env}
        with subprocess.Popen(
            argv, stdin=names_file, stdout=subprocess.PIPE, stderr=stderr_file, env=environment
        ) as process:
            assert process.stdout is not None
            try:
                for name in names:
                    fields = process.stdout.readline().split()
                    if len(fields) != 3:
                        raise GitError(arguments=("cat-file",), exit_code=1, text=f"{name} cannot be read")
                    yield _pieces(process.stdout, int(fields[2]))
                    process.stdout.read(1)
            finally:
                process.kill()


def _pieces(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size and (piece := stream.read(min(size, PIECE_BYTES))):
        size -= len(piece)
        yield piece
    if size:
        raise GitError(arguments=("cat-file",), exit_code=1, text="its output is incomplete")


def run_in_sandbox(
    script: str,
    *arguments: str,
    copy: Path,
    writable_copy: bool,
    run: Path,
    git_folder: Path,
    mirror: Path,
    env: Mapping[str, str],
    readable: Sequence[Path] = (),
    accept: Sequence[int] = (0,),
    timeout_s: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[bytes]:
    """Run a shell script in a sandbox that sees the copy, the mirror, and the engine's repository `git_folder`.

    Only `run` and the objects of the repository are writable: whatever happens here must not change a file that the
    engine writes to, or that configures its git. The script gets `arguments` as "$1", "$2" and so on. With
    FLEET_SANDBOX=off it runs without a sandbox. Each process may use MEMORY_KB.
    Raises GitError if its exit code is not in `accept`; errors.Unavailable if the copy is not there.
    """
    if copy.is_symlink() or not copy.is_dir():
        raise errors.Unavailable(f"The copy {copy} has been removed or replaced.", hint="Retry the sortie.")
    argv = ["/bin/sh", "-euc", _LIMIT_MEMORY + script, "sh", *arguments]
    words = ("add", *arguments)
    with ExitStack() as descriptors:
        pass_fds: list[int] = []
        if settings.FLEET_SANDBOX:
            view = View(
                scratch=run,
                copy=copy if writable_copy else None,
                shared=(mirror, git_folder, *readable, *(() if writable_copy else (copy,))),
                objects=git_folder / "objects",
                hidden=hidden_folders.paths(),
                network=False,
            )
            try:
                argv, pass_fds = bubblewrap.command(
                    argv,
                    view=view,
                    descriptors=descriptors,
                    extra_options=("--die-with-parent", "--chdir", str(copy)),
                )
            except PathRefused as error:
                raise errors.Unavailable(str(error)) from error
        environment = {**git_environment.default(), "HOME": str(run), **env}
        cwd = None if settings.FLEET_SANDBOX else copy
        completed = run_to_end(argv, words, environment, timeout_s, pass_fds, cwd)
        _output(completed, words, accept)
        return completed


def run_to_end(
    argv: Sequence[str],
    arguments: Sequence[str],
    env: Mapping[str, str],
    timeout_s: float,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
    stdin: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end. Errors name the git command `arguments`.

    Raises GitError after `timeout_s`, or if it prints more than MAX_OUTPUT_BYTES, which is kept in memory.
    """
    with tempfile.TemporaryFile() if stdin else open(os.devnull, "rb") as stdin_file:
        if stdin:
            stdin_file.write(stdin)
            stdin_file.seek(0)
        try:
            process = subprocess.Popen(
                argv,
                stdin=stdin_file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                pass_fds=pass_fds,
                cwd=cwd,
            )
        except OSError as error:
            raise GitError(arguments=arguments, exit_code=-1, text=f"it cannot be started: {error.strerror}") from error
    with process:
        try:
            stdout, stderr = _read_to_end(process, arguments, timeout_s)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)


def _read_to_end(process: subprocess.Popen[bytes], arguments: Sequence[str], timeout_s: float) -> tuple[bytes, bytes]:
    """Read both streams of a process until it has ended. Raises GitError like `run_to_end`."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline, size = time.monotonic() + timeout_s, 0
    pieces: dict[IO[bytes], list[bytes]] = {process.stdout: [], process.stderr: []}
    late = GitError(arguments=arguments, exit_code=-1, text=f"it took longer than {humanise.duration(timeout_s)}")
    with selectors.DefaultSelector() as selector:
        for pipe in pieces:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            if (left_s := deadline - time.monotonic()) <= 0:
                raise late
            for key, _ in selector.select(left_s):
                if not (piece := os.read(key.fd, PIPE_BYTES)):
                    selector.unregister(key.fileobj)
                    continue
                size += len(piece)
                if size > MAX_OUTPUT_BYTES:
                    text = f"it printed more than {MAX_OUTPUT_BYTES:,} bytes"
                    raise GitError(arguments=arguments, exit_code=-1, text=text)
                pieces[process.stdout if key.fileobj is process.stdout else process.stderr].append(piece)
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise late from error
    return b"".join(pieces[process.stdout]), b"".join(pieces[process.stderr])


def _output(completed: subprocess.CompletedProcess[bytes], arguments: Sequence[str], accept: Sequence[int]) -> bytes:
    if completed.returncode not in accept:
        text = (completed.stderr or completed.stdout).decode("utf-8", "replace")
        raise GitError(arguments=arguments, exit_code=completed.returncode, text=text)
    return completed.stdout
