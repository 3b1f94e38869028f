"""The parts of a backup besides the database: files that rows refer to. Upper layers register theirs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fleet import registrations
from fleet.backup import copying

Rows = list[tuple[Any, ...]]
Query = Callable[[str], Rows]  # runs a statement in the snapshot of the dump


class SourceFile:
    """A file to copy: its path below the part's folder, and where its bytes come from."""

    __slots__ = ("path", "source")

    def __init__(self, path: str, source: Path | bytes) -> None:
        self.path, self.source = path, source


class BackupPart(Protocol):
    """Files that belong to a backup. A file never changes once it has its name, unless its source is `bytes`."""

    @property
    def name(self) -> str:
        """The name of its folder in a backup."""

    def required(self, query: Query) -> set[str]:
        """The paths that rows of the snapshot refer to."""

    def entries(self, required: Collection[str]) -> Iterator[SourceFile]:
        """The files as they are now, after the snapshot."""

    def put_back(self, path: str, source: Path, *, sha256: str) -> None:
        """Restore one file, before the database. It may exist already; other files are not touched."""

    def finish(self, folder: Path, *, backup: str) -> None:
        """Finish the restore, once the database is restored. `folder` contains the part's files in the backup."""

    def problems(self, folder: Path) -> Iterator[tuple[str, str]]:
        """Problems of the part as a whole, as path and message. Missing and changed files are found before this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFolder:
    """A folder whose files are stored under names that determine their content, such as digests.

    `statement` selects a value per row, and `path` turns it into the path of a file. `includes` decides whether a file
    belongs to a backup, given its path and the required paths.
    """

    name: str
    home: Callable[[], Path]
    statement: str
    path: Callable[[Any], str]
    includes: Callable[[str, Collection[str]], bool]

    def required(self, query: Query) -> set[str]:
        return {self.path(value) for (value,) in query(self.statement)}

    def entries(self, required: Collection[str]) -> Iterator[SourceFile]:
        home = self.home()
        for file in copying.walk(home):
            path = file.relative_to(home).as_posix()
            if self.includes(path, required):
                yield SourceFile(path, file)

    def put_back(self, path: str, source: Path, *, sha256: str) -> None:
        copying.put_back(source, self.home() / path, sha256=sha256)

    def finish(self, folder: Path, *, backup: str) -> None:
        """Nothing to do."""

    def problems(self, folder: Path) -> Iterator[tuple[str, str]]:
        return iter(())


_parts: dict[str, BackupPart] = {}


def register(part: BackupPart) -> None:
    _parts[part.name] = part


def registered() -> list[BackupPart]:
    registrations.load()
    return list(_parts.values())
