"""Users as requests find them: in the statement that looks for the key or the session, and no more of them than most ask for."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User

from fleet.access.models import Account

_READ = ("id", "is_superuser", "username", "is_active")  # in the order of the model's fields, as from_db wants them


def owner(row: Any) -> User:
    """The user of a row of key_of.sql or session_of.sql. What else is asked of it is read then."""
    user = User.from_db(row._state.db, _READ, (row.user_id, row.is_superuser, row.username, row.is_active))
    if row.role is not None:
        user.account = Account(user=user, role=row.role)
    return user
