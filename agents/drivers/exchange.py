"""The folder through which an attempt's processes and the fleet hand each other files: `.fleet` in the scratch folder.

The work may do to it what it likes. So it is opened once, before the work begins, and what is read later is read below
that descriptor, without following links, without waiting, and never more than a limit.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from agents.drivers.base import Brief, Json
from agents.drivers.veil import Veil

SMALL = 32 * 1024  # bytes of a result or an input that also fit into a variable
VARIABLES_BYTES = 512 * 1024  # of all such variables together; the kernel bounds what a process starts with
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NOTE = 300  # characters of a progress note


class Unreadable(Exception):
    """A file that the work wrote for the fleet is not what it should be; the text says what and what to do."""


class Exchange:
    """A context manager. A second flight in the same scratch folder (a verdict's) finds the first one's result there."""

    def __init__(self, brief: Brief) -> None:
        self.path = brief.scratch / ".fleet"
        self._brief = brief

    def __enter__(self) -> Self:
        with suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        self._folder = os.open(self.path, FOLDER)
        with suppress(FileNotFoundError):
            os.unlink("progress", dir_fd=self._folder)
        os.mkfifo("progress", 0o600, dir_fd=self._folder)
        # For writing too: or else each writer's end would be the pipe's.
        self.progress = os.open(
            "progress", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.progress)
        os.close(self._folder)

    def give(self, name: str, text: str, *, folder: int | None = None) -> int:
        """Write a file for the work, for its user alone; its descriptor, at the beginning. `name` has no slash, so that
        no link but the last part's could lead elsewhere, and that one is refused."""
        folder = self._folder if folder is None else folder
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(text.encode("utf-8", "replace"))
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def needs(self) -> dict[str, str]:
        """Write the upstream results; those that are small also as variables."""
        with suppress(FileExistsError):
            os.mkdir("needs", 0o700, dir_fd=self._folder)
        folder = os.open("needs", FOLDER, dir_fd=self._folder)
        try:
            for name, result in self._brief.needs.items():
                os.close(self.give(f"{name.replace('/', '_')}.json", json.dumps(result), folder=folder))
        finally:
            os.close(folder)
        return _small("FLEET_NEED_", {name: json.dumps(result) for name, result in self._brief.needs.items()})

    def inputs(self) -> dict[str, str]:
        """The mission's inputs as variables, and all of them in one file."""
        inputs = self._brief.inputs
        os.close(self.give("inputs.json", json.dumps(dict(inputs))))
        return _small(
            "FLEET_INPUT_",
            {name: value if isinstance(value, str) else json.dumps(value) for name, value in inputs.items()},
        )

    def take(self, name: str, *, what: str) -> tuple[bool, Json]:
        """The JSON that the work left, and whether there is any. Unreadable for what is no plain file of JSON."""
        limit = self._brief.limits.result_bytes
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        except FileNotFoundError:
            return False, None
        except OSError as fault:
            raise Unreadable(f"{what} cannot be read ({fault.strerror}). Write a plain file to its path.") from fault
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{what} is not a plain file. Write JSON to its path.")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(descriptor)
        if len(data) > limit:
            raise Unreadable(f"{what} is larger than {limit:,} bytes. Give large things out as files, under `outputs`.")
        try:
            return True, json.loads(Veil(self._brief.token).whole(data), parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError) as fault:
            raise Unreadable(f"{what} is not JSON ({fault}). Write one JSON value, in UTF-8.") from fault

    def added(self) -> tuple[Json, ...]:
        """The sorties that the work asks to add, unchecked. Unreadable where they are not a list."""
        there, wanted = self.take("sorties.json", what="The list of sorties to add (FLEET_SORTIES)")
        if not there:
            return ()
        if not isinstance(wanted, list):
            raise Unreadable('The sorties to add (FLEET_SORTIES) are not a list: [{"name": …, "agent": …, "run": …}].')
        return tuple(wanted)


def environment(brief: Brief, exchange: Exchange) -> dict[str, str]:
    """All that the work's environment holds: what is allowed of the host's, what the plan sets, the fleet's variables."""
    folder = exchange.path
    home = brief.scratch / ".home"
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    return {
        **{name: os.environ[name] for name in brief.env_allow if name in os.environ},
        "HOME": str(home),
        **({"TMPDIR": "/tmp"} if brief.confined else {}),
        **brief.env,
        **exchange.needs(),
        **exchange.inputs(),
        "FLEET_ATTEMPT": brief.marker,
        "FLEET_TRY": str(brief.try_number),
        "FLEET_HOME_ID": brief.fleet,
        "FLEET_RESULT": str(folder / "result.json"),
        "FLEET_SORTIES": str(folder / "sorties.json"),
        "FLEET_PROGRESS": str(folder / "progress"),
        "FLEET_NEEDS": str(folder / "needs"),
        "FLEET_INPUTS": str(folder / "inputs.json"),
        "FLEET_SCRATCH": str(brief.scratch),
        **({"FLEET_API": brief.api, "FLEET_TOKEN": brief.token} if brief.token else {}),
    }


def progress_of(data: bytes) -> tuple[float | None, str] | None:
    """The newest report of a piece of the progress pipe: lines `0.4 what is being done`, or only the words."""
    lines = data.decode("utf-8", "replace").replace("\x00", "").split("\n")
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    first, _, rest = line.partition(" ")
    with suppress(ValueError):
        fraction = float(first)
        if 0 <= fraction <= 1:
            return fraction, rest.strip()[:NOTE]
    return (None, line[:NOTE]) if line else None


def _small(prefix: str, texts: Mapping[str, str]) -> dict[str, str]:
    variables: dict[str, str] = {}
    spent = 0
    for name, text in texts.items():
        size = len(text.encode("utf-8", "replace"))
        if size <= SMALL and spent + size <= VARIABLES_BYTES and "\x00" not in text:
            spent += size
            variables[prefix + "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()] = text
    return variables


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a value of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number
