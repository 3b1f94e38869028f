"""The folder `.fleet` in the scratch folder, through which the fleet and an attempt's workload exchange files.

The workload can do anything to this folder. So it is opened once, before the workload begins, and later reads are
relative to that descriptor, follow no links, never block, and stop at a limit.
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

from agents.confinement.host_paths import TMP
from agents.drivers.base import AttemptBrief, Json, Needs
from fleet import values

MAX_VARIABLE_BYTES = 32 * 1024  # per variable; a longer value goes into a file. Linux allows 128 KiB
# For all variables from the mission together, names included. Linux allows 2 MiB, arguments included.
MAX_ENVIRONMENT_BYTES = 512 * 1024
MAX_FILE_NAME = 100  # characters of a need's name that its file name keeps
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_NOTE = 300  # characters of a progress note
RESUME = "resume.json"
REMEDY = "Store large results as files, under `outputs`."

_DIGESTED = re.compile(r"-[0-9a-f]{16}\Z")


class Unreadable(Exception):
    """A file that the workload wrote for the fleet is not acceptable. The text says why, and what to do."""


class Exchange:
    """The exchange folder of one run, as a context manager.

    A second run in the same scratch folder (the `verify` of a sortie) finds the result of the first one there.
    """

    def __init__(self, brief: AttemptBrief) -> None:
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
        # Opened for writing too. Otherwise the pipe would reach its end whenever a writer closes it.
        self.progress = os.open(
            "progress", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.progress)
        os.close(self._folder)

    def create(self, name: str, text: str | Iterable[str]) -> int:
        """Write a file for the workload (mode 0600) and return its descriptor, positioned at the start.

        `name` may contain one folder. If the workload has replaced either by a symbolic link, the link is not followed.
        """
        parent, _, name = name.rpartition("/")
        folder = os.open(parent, FOLDER, dir_fd=self._folder) if parent else self._folder
        try:
            return self._create_in(folder, name, text)
        finally:
            if parent:
                os.close(folder)

    def _create_in(self, folder: int, name: str, text: str | Iterable[str]) -> int:
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
        """Write needs and inputs to files, and return as many of them as fit into environment variables."""
        variables = _Variables(self)
        states, inputs, needs = self._brief.need_states, self._brief.inputs, Needs.of(self._brief.needs)
        self.write("inputs.json", json.dumps(dict(inputs)))
        self.write("need_states.json", json.dumps(dict(states)))
        self.write("needs.json", json.dumps({name: file_name(name) for name in needs}))
        for folder in ("needs", "variables"):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=self._folder)
        variables.add("FLEET_NEED_STATES", "", [json.dumps(dict(states))], file="need_states.json")
        for name, value in inputs.items():
            variables.add("FLEET_INPUT_", name, [value if isinstance(value, str) else json.dumps(value)])
        for name in needs:
            file = f"needs/{file_name(name)}"
            self.write(file, needs.pieces(name))
            variables.add("FLEET_NEED_", name, needs.pieces(name), file=file)
        return variables.values

    def write(self, name: str, text: str | Iterable[str]) -> None:
        os.close(self.create(name, text))

    def read(self, name: str, *, label: str, limit: int | None = None, remedy: str = REMEDY) -> tuple[bool, Json]:
        """Return whether the workload wrote this file, and the JSON value in it. `label` names the file in errors.

        Raises Unreadable if it is not a regular file with JSON, or contains a value that the fleet does not accept
        (fleet/values.py).
        """
        limit = self._brief.limits.result_bytes if limit is None else limit
        data = self.read_bytes(name, label=label, limit=limit)
        return (False, None) if data is None else (True, self.value(data, label=label, limit=limit, remedy=remedy))

    def read_bytes(self, name: str, *, label: str, limit: int) -> bytes | None:
        """Up to `limit` + 1 bytes of a file that the workload wrote, None without one. Raises Unreadable like `read`.

        The workload may still be running. Without O_NONBLOCK, a lease on the file (fcntl(2)) would delay its opening.
        """
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreadable(f"{label} cannot be read ({error.strerror}). Write a regular file to its path.") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{label} is not a regular file. Write JSON to its path.")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(limit + 1)
        except OSError as error:
            raise Unreadable(f"{label} cannot be read ({error.strerror}). Write it again.") from error
        finally:
            os.close(descriptor)

    def value(self, data: bytes, *, label: str, limit: int, remedy: str = REMEDY) -> Json:
        """The redacted JSON value in the data of a file. Raises Unreadable like `read`."""
        try:
            return self._redactor.value(values.parse(data, max_bytes=limit))  # type: ignore[no-any-return]
        except values.Unacceptable as exc:
            error = f"{label} is not accepted: {exc}."
            raise Unreadable(f"{error} {remedy}" if isinstance(exc, values.TooLarge) else error) from None
        except ValueError as exc:
            raise Unreadable(f"{label} is not JSON ({exc}). Write one JSON value, in UTF-8.") from None

    def added_sorties(self) -> tuple[Json, ...]:
        """The sorties that the workload wants to add, not validated. Raises Unreadable if they are not a list."""
        written, sorties = self.read(
            "sorties.json",
            label="The list of sorties to add (FLEET_SORTIES)",
            limit=self._brief.limits.added_bytes,
            remedy="Add fewer sorties, with more work in each.",
        )
        if not written:
            return ()
        if not isinstance(sorties, list):
            raise Unreadable(
                "The sorties to add (FLEET_SORTIES) are not a list. "
                'Write a JSON list such as [{"name": …, "agent": …, "run": …}].'
            )
        return tuple(sorties)


def environment(brief: AttemptBrief, exchange: Exchange) -> dict[str, str]:
    """The environment of the workload: allowed variables of the host, those of the plan, and those of the fleet."""
    folder = exchange.path
    home = brief.scratch / ".home"
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    if brief.resume is not None:
        exchange.write(RESUME, values.encode(brief.resume))
    return {
        **{name: os.environ[name] for name in brief.env_allow if name in os.environ},
        "HOME": str(home),
        **({"TMPDIR": TMP} if brief.confined else {}),
        **brief.env,
        **exchange.variables(),
        "FLEET_ATTEMPT": brief.marker,
        "FLEET_TRY": str(brief.try_number),
        "FLEET_HOME_ID": brief.fleet,
        "FLEET_RESULT": str(folder / "result.json"),
        "FLEET_SORTIES": str(folder / "sorties.json"),
        "FLEET_PROGRESS": str(folder / "progress"),
        "FLEET_RESUME": str(folder / RESUME),
        "FLEET_NEEDS": str(folder / "needs"),
        "FLEET_NEEDS_INDEX": str(folder / "needs.json"),
        "FLEET_INPUTS": str(folder / "inputs.json"),
        "FLEET_SCRATCH": str(brief.scratch),
        **({"FLEET_API": brief.api, "FLEET_TOKEN": brief.token} if brief.token else {}),
    }


def parse_progress(data: bytes) -> tuple[float | None, str] | None:
    """The last report in a piece of the progress pipe. Each line is `0.4 some note`, or only the note."""
    lines = data.decode("utf-8", "replace").replace("\x00", "").split("\n")
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    first, _, rest = line.partition(" ")
    with suppress(ValueError):
        fraction = float(first)
        if 0 <= fraction <= 1:
            return fraction, rest.strip()[:MAX_NOTE]
    return (None, line[:MAX_NOTE]) if line else None


def file_name(need: str) -> str:
    """The name of the file with a need's result: usually the need's name and `.json`.

    A name that is too long or not usable as a file name is shortened and ends in a digest. So is a name that looks like
    such a result, so that no two needs share a file.
    """
    printable = "".join(c if c not in "/\0" and c.isprintable() else "_" for c in need[:MAX_FILE_NAME])
    is_plain = (
        printable == need
        and not need.startswith(".")
        and len(need.encode()) <= MAX_FILE_NAME
        and not _DIGESTED.search(need)
    )
    if is_plain:
        return f"{need}.json"
    short = printable.encode("utf-8", "replace")[:MAX_FILE_NAME].decode("utf-8", "ignore")
    return f"_{short}-{hashlib.sha256(need.encode('utf-8', 'replace')).hexdigest()[:16]}.json"


class _Variables:
    """The variables that depend on the mission.

    A variable that is too long, or does not fit into MAX_ENVIRONMENT_BYTES, is not set. Its text goes into a file, and
    `<NAME>_FILE` names that file if there is room for it.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.values: dict[str, str] = {}
        self._exchange = exchange
        self._free_bytes = MAX_ENVIRONMENT_BYTES

    def add(self, prefix: str, name: str, pieces: Iterable[str], *, file: str = "") -> None:
        """Set one variable from pieces of text. `file` names the file that holds the text already, if there is one."""
        variable = prefix + "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()
        pieces = iter(pieces)
        text = ""
        for piece in pieces:
            text += piece
            if len(text) > MAX_VARIABLE_BYTES:
                break
        if (
            len(text.encode("utf-8", "replace")) <= MAX_VARIABLE_BYTES
            and "\0" not in text
            and self._set(variable, text)
        ):
            return
        if not file:
            file = f"variables/{variable}"
            self._exchange.write(file, chain([text], pieces))
        self._set(f"{variable}_FILE", str(self._exchange.path / file))

    def _set(self, variable: str, text: str) -> bool:
        size = len(variable) + len(text.encode("utf-8", "replace")) + 2
        if size > self._free_bytes or variable in self.values:
            return False
        self._free_bytes -= size
        self.values[variable] = text
        return True
