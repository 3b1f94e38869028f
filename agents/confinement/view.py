"""What one attempt sees of the host's file system, and what it may change. By default, nothing."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from agents.confinement import host_paths, links

MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What an attempt sees of the host besides the system's folders and the fleet's code, which are read-only."""

    scratch: Path
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()  # takes precedence over everything except `scratch`, `copy` and `shared`
    copy: Path | None = None  # its copy of a repository; writable
    shared: tuple[Path, ...] = ()  # read-only, even inside a hidden folder: the objects that the copy borrows
    objects: Path | None = None  # writable inside one of `shared`, except for its folder `info`: new objects of git
    network: bool = True
    tmp_bytes: int = 1000 * MB

    def shows(self, path: Path) -> bool:
        """Whether the attempt would see what is at this path. It need not exist."""
        if host_paths.inside(path, [self.scratch, *filter(None, [self.copy]), *self.shared]):
            return True
        if host_paths.inside(path, self.hidden):
            return False
        system = map(Path, (*host_paths.SYSTEM, "/proc", "/dev", host_paths.TMP))
        return host_paths.inside(path, [*self.writable, *self.readable, *host_paths.code_folders(), *system])

    def is_in_private_tmp(self, path: Path) -> bool:
        """Whether the path is in the attempt's own /tmp, which has none of the host's files."""
        of_host = [self.scratch, *filter(None, [self.copy]), *self.shared, *self.writable, *self.readable]
        return host_paths.inside(path, [Path(host_paths.TMP)]) and not host_paths.inside(
            path, [*of_host, *host_paths.code_folders()]
        )

    def readable_paths(self, *, hidden: list[Path]) -> list[Path]:
        """The readable paths that exist and are not in a hidden folder."""
        return [path for path in self.readable if os.path.lexists(path) and not host_paths.inside(path, hidden)]

    def hidden_paths(self) -> list[Path]:
        """The hidden paths, without links. A missing one that the workload could create is created here first.

        Raises PathRefused if the workload could replace a link on the way to a hidden folder.
        """
        hidden: list[Path] = []
        for path in self.hidden:
            try:
                real = links.resolve(path, trusts=lambda link: not host_paths.inside(link, self.writable))
            except links.UntrustedLink as error:
                raise host_paths.PathRefused(
                    f"{error.filename} is a symbolic link on the way to a folder of the fleet, and a workload could "
                    f"replace it. Name {path.resolve()} in the settings instead, or start the mission in another folder."
                ) from error
            if real.exists() or self._create_hidden(real, hidden):
                hidden.append(real)
        return hidden

    def _create_hidden(self, path: Path, hidden: list[Path]) -> bool:
        """Create a missing folder that the workload could otherwise create itself. Returns whether it exists now."""
        if host_paths.inside(path, hidden) or not host_paths.inside(path, [*self.writable, *self.readable]):
            return False
        try:
            path.mkdir(mode=0o700, parents=True)
        except FileExistsError:  # another attempt has just created it
            pass
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return False  # then the workload cannot create it either
            raise host_paths.PathRefused(
                f"{path}, which is hidden from workloads, cannot be created: {error.strerror}."
            ) from error
        return True
