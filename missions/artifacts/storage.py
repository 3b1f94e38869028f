"""Where the bytes of artifacts lie."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage

from agents.shim import beneath
from fleet import ids

ABANDONED_S = 3_600.0  # far more than one that lives takes from one block to the next, and than clocks of hosts are off


class WholeFiles(FileSystemStorage):
    """Files that have their name only once all of their bytes are there, whatever dies while they are written.

    Names are digests: who saves one that is there already replaces it with the same.
    """

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """To read; no link is followed, whoever has put it there."""
        folder = beneath.open_folder(Path(self.location).resolve())
        try:
            return File(os.fdopen(beneath.open_plain(folder, name), "rb"), name=name)
        finally:
            os.close(folder)

    def save(self, name: str | None, content: IO[Any], max_length: int | None = None) -> str:
        assert name is not None
        draft, whole = f"drafts/{ids.new()}", Path(self.path(name))
        try:
            super().save(draft, content, max_length)
            whole.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.replace(self.path(draft), whole)
        finally:
            self.delete(draft)
        return name

    def sweep(self) -> int:
        """Remove drafts that nobody has written to for ABANDONED_S: who wrote them was killed. Returns how many.

        One who is that slow and lives fails when it names its file, and its attempt is tried again.
        """
        removed = 0
        with suppress(FileNotFoundError):  # nothing was ever stored
            for draft in Path(self.path("drafts")).iterdir():
                with suppress(FileNotFoundError):  # it has its name now, or another sweeps
                    if time.time() - draft.stat().st_mtime > ABANDONED_S:
                        draft.unlink()
                        removed += 1
        return removed
