"""Django's sessions in the database, with keys that every database accepts."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone


class SessionStore(DatabaseStore):
    def _validate_session_key(self, key: Any) -> bool:
        """Whether a cookie can be a key. A NUL in it would be an error of Postgres, and a 500."""
        valid: bool = super()._validate_session_key(key)  # type: ignore[misc]  # missing in the stubs
        return valid and key.isascii() and key.isalnum()


def end_of_browsers(user: User) -> int:
    """End the sessions of all browsers in which a user is signed in. Returns their number.

    Django stores the user inside the encoded session, so this decodes every session that has not expired.
    """
    sessions = DatabaseStore.get_model_class().objects
    unexpired = sessions.filter(expire_date__gt=timezone.now()).iterator()
    keys = [row.session_key for row in unexpired if row.get_decoded().get(SESSION_KEY) == str(user.pk)]
    sessions.filter(session_key__in=keys).delete()
    return len(keys)
