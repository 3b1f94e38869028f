"""Writes of main tables by others than the fleet's own processes, a person with psql say, are entries too.

Triggers of a statement, not of a row, ask for the session's name only: those of the fleet's processes begin with NAME, and
for them nothing more is done. It tells of who goes past the commands and the API, not of who takes trouble to seem to be the
fleet: that is what the database's own roles and logs are for.
"""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations.special import RunSQL

NAME = "fleet"  # what application_name of the fleet's own sessions begins with

_CATCH = f"""FOR EACH STATEMENT WHEN (NOT starts_with(current_setting('application_name'), '{NAME}'))
    EXECUTE FUNCTION fleet_audit.caught();
"""
_GUARD = f"""
CREATE OR REPLACE TRIGGER counted BEFORE INSERT OR UPDATE OR DELETE ON "%(table)s" {_CATCH}
CREATE OR REPLACE TRIGGER caught AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON "%(table)s" {_CATCH}
"""
_LEAVE = 'DROP TRIGGER IF EXISTS counted ON "%(table)s"; DROP TRIGGER IF EXISTS caught ON "%(table)s";'


class Guard(RunSQL):
    """A migration's operation: record raw writes of these tables. Doing it again changes nothing."""

    def __init__(self, *tables: str) -> None:
        self.tables = tables
        super().__init__(_all(_GUARD, tables), _all(_LEAVE, tables))

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, list(self.tables), {}

    def describe(self) -> str:
        return f"Record raw writes of {', '.join(self.tables)} in the audit trail"


def _all(statement: str, tables: tuple[str, ...]) -> str:
    return "".join(statement % {"table": table} for table in tables)
