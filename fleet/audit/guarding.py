"""Records writes to the main tables by sessions other than the fleet's own, such as a person with psql.

A trigger per statement, not per row, checks only the application name of the session. Those of the fleet's processes
begin with OWN_SESSIONS, and are not recorded. This catches people who bypass the commands and the API. It does not
catch an attacker who imitates the fleet's application name; the database's roles and log have to do that.
"""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations.special import RunSQL

OWN_SESSIONS = "fleet"  # the prefix of application_name in the fleet's own sessions

_RECORD = f"""FOR EACH STATEMENT WHEN (NOT starts_with(current_setting('application_name'), '{OWN_SESSIONS}'))
    EXECUTE FUNCTION fleet_audit.caught();
"""
_GUARD = f"""
CREATE OR REPLACE TRIGGER counted BEFORE INSERT OR UPDATE OR DELETE ON "%(table)s" {_RECORD}
CREATE OR REPLACE TRIGGER caught AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON "%(table)s" {_RECORD}
"""
_UNGUARD = 'DROP TRIGGER IF EXISTS counted ON "%(table)s"; DROP TRIGGER IF EXISTS caught ON "%(table)s";'


class Guard(RunSQL):
    """A migration operation that records raw writes to these tables. It is idempotent."""

    def __init__(self, *tables: str) -> None:
        self.tables = tables
        super().__init__(_for_each(_GUARD, tables), _for_each(_UNGUARD, tables))

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, list(self.tables), {}

    def describe(self) -> str:
        return f"Record raw writes to {', '.join(self.tables)} in the audit trail"


def _for_each(statement: str, tables: tuple[str, ...]) -> str:
    return "".join(statement % {"table": table} for table in tables)
