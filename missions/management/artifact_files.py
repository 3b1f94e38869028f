"""Saves artifacts as files in a folder of the user.

Links that workloads may have put there are not followed: those below that folder, and those in the folder of a mission.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from agents.confinement import host_paths, links
from agents.shim import beneath
from fleet import errors
from fleet.console import invocation, lines
from missions.artifacts import collection
from missions.models import Artifact, Mission


def save(files: Iterable[Artifact], folder: Path) -> Iterable[Path]:
    """Write artifacts to `<folder>/<sortie>/<path>`, one after another, and yield the paths."""
    folder = folder.absolute()
    try:
        folders = [
            Path(name) for name in Mission.objects.exclude(folder="").values_list("folder", flat=True).distinct()
        ]
        real = links.resolve(folder, trusts=lambda link: not host_paths.inside(link, folders))
    except links.UntrustedLink as error:
        raise errors.Invalid(
            f"{lines.one_line(error.filename)} is a symbolic link, which a workload may have put there, so it is not "
            "followed.",
            hint="Name the folder that it leads to.",
        ) from error
    for file in files:
        # A slash in a key (of a matrix member or an added sortie) must not lead out of the folder.
        path = Path(file.sortie.key.replace("/", "_")) / file.path
        target = folder / path
        try:
            with collection.open_stored(file) as source, _create(real, path) as copy:
                copy.writelines(source.chunks())
        except OSError as error:
            raise errors.FleetError(
                f"{target} cannot be written: {error.strerror}.",
                hint="The fleet still has the file. Write it to another folder: "
                + invocation.command("fleet_mission", "artifacts", file.sortie.mission.ref, "--save", "FOLDER"),
            ) from error
        yield target


def _create(folder: Path, path: Path) -> IO[bytes]:
    """Open a new file at a path below `folder`, in place of an old one. Links below `folder` are not followed."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as descriptors:
        parent = beneath.open_path(folder, folder=True)
        descriptors.callback(os.close, parent)
        for part in path.parent.parts:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=parent)
            flags, resolve = os.O_PATH | os.O_DIRECTORY, beneath.BENEATH | beneath.NO_LINKS
            parent = beneath.open_at(parent, part, flags, resolve=resolve)
            descriptors.callback(os.close, parent)
        with suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.fdopen(os.open(path.name, flags, 0o666, dir_fd=parent), "wb")
