"""Finds the programs that the fleet runs outside the sandbox, such as git and ssh, where no workload can write.

A folder of PATH may be inside a mission's folder, and a workload could put a `git` of its own there. So only folders of
the system, those of this Python, and those that an operator lists in FLEET_PROGRAM_FOLDERS count. Commands that a
person starts find Podman, Docker and the clients of Postgres in PATH itself (fleet/config/programs.py).
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path

from django.conf import settings

STANDARD = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
STORES = ("/nix/store", "/gnu/store", "/snap/bin")  # only package managers write to what is below


def folders() -> tuple[Path, ...]:
    """The folders in which the fleet looks for these programs, in this order, without links."""
    return _folders(tuple(settings.FLEET_PROGRAM_FOLDERS), os.environ.get("PATH", ""))


def path_variable() -> str:
    """The value of PATH for programs that run outside the sandbox."""
    return os.pathsep.join(map(str, folders()))


def find(program: str) -> str | None:
    """The path of a program, or None if it is in none of these folders."""
    return shutil.which(program, path=path_variable())


def folders_closed_to_missions() -> tuple[Path, ...]:
    """The folders that no mission's folder may contain. Those of Python may: the sandbox keeps them read-only."""
    python = _folders_of_python()
    return tuple(dict.fromkeys([*map(Path, STANDARD), *(path for path in folders() if path not in python)]))


def ignored_folders() -> tuple[Path, ...]:
    """The existing folders of PATH in which the fleet does not look."""
    used = folders()
    entries = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if os.path.isabs(entry)]
    return tuple(dict.fromkeys(entry for entry in entries if entry.is_dir() and entry.resolve() not in used))


@cache
def _folders(configured: tuple[str, ...], path: str) -> tuple[Path, ...]:
    entries = [Path(entry).resolve() for entry in path.split(os.pathsep) if os.path.isabs(entry)]
    trusted = {*_folders_of_python(), *(Path(folder).resolve() for folder in STANDARD)}
    usable = [entry for entry in entries if entry in trusted or any(entry.is_relative_to(store) for store in STORES)]
    defaults = [] if usable else [Path(folder).resolve() for folder in STANDARD]
    return tuple(dict.fromkeys([*(Path(folder).resolve() for folder in configured), *usable, *defaults]))


def _folders_of_python() -> set[Path]:
    return {Path(prefix, "bin").resolve() for prefix in (sys.prefix, sys.base_prefix)} - {
        Path(folder).resolve() for folder in STANDARD
    }
