"""The folder through which an attempt's processes and the fleet hand each other files: `.fleet` in the scratch folder.

The work may do to it what it likes. So it is opened once, before the work begins, and what is read later is read below
that descriptor, without following links, without waiting, and never more than a limit.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from types import TracebackType
from typing import Self

from agents.drivers import sandbox
from agents.drivers.base import Brief, Json, Needs
from fleet import values

VARIABLE_BYTES = 32 * 1024  # of a variable's text; what is longer is a file. Linux takes 128 KiB
VARIABLES_BYTES = 512 * 1024  # of all that depend on the mission, names included; Linux takes 2 MiB, with the arguments
FILE_NAME = 100  # characters of a need's name that its file keeps
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NOTE = 300  # characters of a progress note
REMEDY = "Give large things out as files, under `outputs`."

_DIGESTED = re.compile(r"-[0-9a-f]{16}\Z")


class Unreadable(Exception):
    """A file that the work wrote for the fleet is not what it should be; the text says what and what to do."""


class Exchange:
    """A context manager. A second flight in the same scratch folder (a verdict's) finds the first one's result there."""

    def __init__(self, brief: Brief) -> None:
        self.path = brief.scratch / ".fleet"
        self._brief = brief
        self._redactor = brief.redactor()

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

    def give(self, name: str, text: str | Iterable[str]) -> int:
        """Write a file for the work, for its user alone; its descriptor, at the beginning.

        `name` may have one folder. Neither that nor the file is followed where the work has put a link there.
        """
        parent, _, name = name.rpartition("/")
        folder = os.open(parent, FOLDER, dir_fd=self._folder) if parent else self._folder
        try:
            return self._create(name, text, folder=folder)
        finally:
            if parent:
                os.close(folder)

    def _create(self, name: str, text: str | Iterable[str], *, folder: int) -> int:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            for piece in [text] if isinstance(text, str) else text:
                file.write(piece.encode("utf-8", "replace"))
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def variables(self) -> dict[str, str]:
        """Write needs and inputs into files, and give them as variables too, as far as these have room."""
        variables = _Variables(self)
        states, inputs, needs = self._brief.need_states, self._brief.inputs, Needs.of(self._brief.needs)
        self._write("inputs.json", json.dumps(dict(inputs)))
        self._write("need_states.json", json.dumps(dict(states)))
        self._write("needs.json", json.dumps({name: file_name(name) for name in needs}))
        for folder in ("needs", "variables"):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=self._folder)
        variables.add("FLEET_NEED_STATES", "", [json.dumps(dict(states))], file="need_states.json")
        for name, value in inputs.items():
            variables.add("FLEET_INPUT_", name, [value if isinstance(value, str) else json.dumps(value)])
        for name in needs:
            file = f"needs/{file_name(name)}"
            self._write(file, needs.pieces(name))
            variables.add("FLEET_NEED_", name, needs.pieces(name), file=file)
        return variables.found

    def _write(self, name: str, text: str | Iterable[str]) -> None:
        os.close(self.give(name, text))

    def take(self, name: str, *, what: str, limit: int | None = None, remedy: str = REMEDY) -> tuple[bool, Json]:
        """The JSON that the work left, and whether there is any. Unreadable for what is no plain file of JSON, and for a
        value that the fleet does not accept (fleet/values.py)."""
        limit = self._brief.limits.result_bytes if limit is None else limit
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
        try:
            return True, self._redactor.value(values.parse(data, max_bytes=limit))
        except values.Unacceptable as fault:
            told = f"{what} is not accepted: {fault}."
            raise Unreadable(f"{told} {remedy}" if isinstance(fault, values.TooLarge) else told) from None
        except ValueError as fault:
            raise Unreadable(f"{what} is not JSON ({fault}). Write one JSON value, in UTF-8.") from None

    def added(self) -> tuple[Json, ...]:
        """The sorties that the work asks to add, unchecked. Unreadable where they are not a list."""
        there, wanted = self.take(
            "sorties.json",
            what="The list of sorties to add (FLEET_SORTIES)",
            limit=self._brief.limits.added_bytes,
            remedy="Add fewer sorties, with more work in each.",
        )
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
        **({"TMPDIR": sandbox.TMP} if brief.confined else {}),
        **brief.env,
        **exchange.variables(),
        "FLEET_ATTEMPT": brief.marker,
        "FLEET_TRY": str(brief.try_number),
        "FLEET_HOME_ID": brief.fleet,
        "FLEET_RESULT": str(folder / "result.json"),
        "FLEET_SORTIES": str(folder / "sorties.json"),
        "FLEET_PROGRESS": str(folder / "progress"),
        "FLEET_NEEDS": str(folder / "needs"),
        "FLEET_NEEDS_INDEX": str(folder / "needs.json"),
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


def file_name(need: str) -> str:
    """The file of a need's result: its name and `.json`. A name that is long, or that no file can have, is cut and gets a
    digest at its end; so does one that looks like that, so that no two needs share a file."""
    kept = "".join(c if c not in "/\0" and c.isprintable() else "_" for c in need[:FILE_NAME])
    is_plain = (
        kept == need and not need.startswith(".") and len(need.encode()) <= FILE_NAME and not _DIGESTED.search(need)
    )
    if is_plain:
        return f"{need}.json"
    short = kept.encode("utf-8", "replace")[:FILE_NAME].decode("utf-8", "ignore")
    return f"_{short}-{hashlib.sha256(need.encode('utf-8', 'replace')).hexdigest()[:16]}.json"


class _Variables:
    """The variables that depend on the mission. One that is too long, or for which no room is left, is not set: then
    `<NAME>_FILE` names a file that holds its text, as far as there is room for that."""

    def __init__(self, exchange: Exchange) -> None:
        self.found: dict[str, str] = {}
        self._exchange = exchange
        self._left = VARIABLES_BYTES

    def add(self, prefix: str, name: str, pieces: Iterable[str], *, file: str = "") -> None:
        """`pieces` of text, read only as far as a variable goes; `file` has the text already, where there is one."""
        variable = prefix + "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()
        pieces = iter(pieces)
        text = ""
        for piece in pieces:
            text += piece
            if len(text) > VARIABLE_BYTES:
                break
        if len(text.encode("utf-8", "replace")) <= VARIABLE_BYTES and "\0" not in text and self._set(variable, text):
            return
        if not file:
            file = f"variables/{variable}"
            self._exchange._write(file, chain([text], pieces))
        self._set(f"{variable}_FILE", str(self._exchange.path / file))

    def _set(self, variable: str, text: str) -> bool:
        size = len(variable) + len(text.encode("utf-8", "replace")) + 2
        if size > self._left or variable in self.found:
            return False
        self._left -= size
        self.found[variable] = text
        return True
