"""The file storage of artifacts."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage

from agents.shim import beneath
from fleet import ids

ABANDONED_S = 3_600.0  # far longer than a live writer pauses between two writes, and than the hosts' clock skew


class AtomicFileStorage(FileSystemStorage):
    """Stores each file atomically: it gets its name only once it is complete, even if the writer is killed.

    Names are digests, so saving a file that exists already replaces it with the same bytes.
    """

    @cached_property
    def _resolved_location(self) -> Path:
        return Path(self.location).resolve()

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Open a file for reading. Symbolic links are not followed."""
        folder = beneath.open_path(self._resolved_location, folder=True)
        try:
            return File(os.fdopen(beneath.open_plain(folder, name), "rb"), name=name)
        finally:
            os.close(folder)

    def save(self, name: str | None, content: IO[Any], max_length: int | None = None) -> str:
        assert name is not None
        draft, final_path = f"drafts/{ids.new()}", Path(self.path(name))
        try:
            super().save(draft, content, max_length)
            final_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.replace(self.path(draft), final_path)
        finally:
            self.delete(draft)
        return name

    def sweep(self, *, dry_run: bool = False) -> int:
        """Remove drafts without a write for ABANDONED_S, whose writers were killed; returns how many.

        A live writer that is slower than that fails when it renames its file, and its attempt is retried.
        """
        removed = 0
        with suppress(FileNotFoundError):  # nothing was ever stored
            for draft in Path(self.path("drafts")).iterdir():
                with suppress(FileNotFoundError):  # it was completed, or another process sweeps too
                    if time.time() - draft.stat().st_mtime > ABANDONED_S:
                        if not dry_run:
                            draft.unlink()
                        removed += 1
        return removed
