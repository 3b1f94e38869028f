"""Where the bytes of artifacts lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from django.core.files.storage import FileSystemStorage

from fleet import ids


class WholeFiles(FileSystemStorage):
    """Files that have their name only once all of their bytes are there, whatever dies while they are written.

    Names are digests: who saves one that is there already replaces it with the same.
    """

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

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
