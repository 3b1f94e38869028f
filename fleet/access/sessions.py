"""Django's sessions in the database, with keys that every database accepts."""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore


class SessionStore(DatabaseStore):
    def _validate_session_key(self, key: Any) -> bool:
        """Whether a cookie can be a key. A NUL in it would be an error of Postgres, and a 500."""
        valid: bool = super()._validate_session_key(key)  # type: ignore[misc]  # missing in the stubs
        return valid and key.isascii() and key.isalnum()
