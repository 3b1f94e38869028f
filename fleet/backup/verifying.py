"""Verifies a backup: reads every byte of it, and reports the damaged files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from fleet import errors
from fleet.backup import copying, dumping, manifest, parts
from fleet.backup.folder import Backup
from fleet.backup.manifest import DUMP, BackupDamaged, BackupFile
from fleet.console import lines
from fleet.console.lines import Say

Problem = Literal["missing", "changed", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupProblem:
    """A file of the backup that cannot be used."""

    path: str
    problem: Problem
    message: str  # a sentence for people


@dataclass(slots=True, kw_only=True)
class BackupReport:
    """The findings of a verification."""

    backup: str
    files: int = 0
    bytes: int = 0
    problems: list[BackupProblem] = field(default_factory=list)


def verify(*, backup: Backup, say: Say = lambda _: None) -> BackupReport:
    """Compare each file with its SHA-256, read the dump to its end, and check each part as a whole."""
    report = BackupReport(backup=backup.name)
    try:
        listing = backup.manifest
    except BackupDamaged as error:
        report.problems.append(BackupProblem(path=manifest.NAME, problem="changed", message=str(error)))
        return report
    say(f"Verifying {backup.name}: {lines.counted(len(listing.files), 'file')}")
    for file in listing.files:
        report.files += 1
        report.problems += _problems(backup, file, report)
    damaged = {problem.path for problem in report.problems}
    if DUMP not in damaged and (reason := dumping.problem(backup.path / DUMP, client=listing.client)):
        report.problems.append(BackupProblem(path=DUMP, problem="unreadable", message=reason))
    if not damaged:
        for part in parts.registered():
            for path, message in part.problems(backup.path / part.name):
                report.problems.append(BackupProblem(path=f"{part.name}/{path}", problem="unreadable", message=message))
    return report


def require_intact(backup: Backup, *, say: Say) -> None:
    """Raise Conflict if a file of the backup cannot be used."""
    report = verify(backup=backup, say=say)
    if report.problems:
        others = len(report.problems) - 1
        more = f" {lines.counted(others, 'other file')} too." if others else ""
        raise errors.Conflict(
            f"The backup {backup.name} is damaged. {report.problems[0].message}{more}",
            hint="Nothing was changed. Use another backup.",
        )


def _problems(backup: Backup, file: BackupFile, report: BackupReport) -> Iterator[BackupProblem]:
    try:
        size, sha256 = copying.digest(backup.path / file.path)
    except FileNotFoundError:
        yield BackupProblem(path=file.path, problem="missing", message=f"{file.path} is missing.")
    except OSError as error:
        yield BackupProblem(
            path=file.path, problem="unreadable", message=f"{file.path} cannot be read: {error.strerror}."
        )
    else:
        report.bytes += size  # what was read; the manifest may state anything
        if size != file.size:
            message = f"{file.path} has {size:,} bytes instead of {file.size:,}."
            yield BackupProblem(path=file.path, problem="changed", message=message)
        elif sha256 != file.sha256:
            message = f"{file.path} was changed: its SHA-256 does not match."
            yield BackupProblem(path=file.path, problem="changed", message=message)
