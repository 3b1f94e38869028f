"""Users from the statement that reads the key or the session, with only the columns that most requests need."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User

from fleet.access.models import Account

_COLUMNS = ("id", "is_superuser", "username", "is_active")  # in the order of the model's fields, as from_db expects


def owner(row: Any) -> User:
    """The user of a row of key_by_prefix.sql or session_by_id.sql. Other fields are deferred."""
    user = User.from_db(row._state.db, _COLUMNS, (row.user_id, row.is_superuser, row.username, row.is_active))
    if row.role is not None:
        user.account = Account(user=user, role=row.role)
    return user
