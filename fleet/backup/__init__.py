"""Backups of a whole installation: the database, and the files that its rows refer to (docs/backup.md).

`create`, `verify` and `restore` are the operations; `folder` lists backups. Upper layers register their
files (`parts.register`) and the statements to run on restored rows (`hooks`). Nothing here names an app.

    postgres_clients  finds pg_dump, pg_restore and psql          folder    the folder of backups: names, lock, retention
    dumping           the dump, from one exported snapshot        copying   copies files and computes their SHA-256
    loading           loads a dump into a database                manifest  what a backup consists of
    upgrading         converts the embedded Postgres to the installed major version
"""

from fleet.backup.creating import create
from fleet.backup.folder import Backup
from fleet.backup.restoring import BackupRestoreResult, restore
from fleet.backup.verifying import BackupReport, verify

__all__ = ["Backup", "BackupReport", "BackupRestoreResult", "create", "restore", "verify"]
