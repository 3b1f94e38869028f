"""`manage.py migrate`: Django's own command, run as the owner of the database; then grants the application's rights.

Other sessions queue behind a migration that waits for a lock. So it waits for at most FLEET_MIGRATE_LOCK_S, gives up,
and tries again later. Migrations that are not atomic build or drop indexes concurrently and block nobody, so they may
wait longer.
"""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, connection
from django.db.migrations import Migration
from psycopg.errors import DeadlockDetected, LockNotAvailable

from fleet import humanise
from fleet.audit import protection
from fleet.postgres import lock_waits, parameters, roles

MAX_PAUSE_S = 10.0


class Command(migrate.Command):
    tries = 10  # how often a migration tries to get its locks
    _current: Migration | None = None

    def handle(self, *args: Any, **options: Any) -> None:
        if options["plan"] or options["check_unapplied"]:
            super().handle(*args, **options)
            return
        roles.ensure_roles()
        with roles.as_owner():
            protection.permit_migrations()
            self._migrate(*args, **options)
            roles.grant()
            protection.protect()

    def _migrate(self, *args: Any, **options: Any) -> None:
        """Migrate, and retry while a lock is not available. Migrations that were applied stay applied."""
        connection.ensure_connection()
        libpq = parameters.from_django(application_name="migrate")
        with lock_waits.Watcher(pid=connection.connection.info.backend_pid, parameters=libpq) as watcher:
            for attempt in range(1, self.tries + 1):
                try:
                    super().handle(*args, **options)
                except OperationalError as error:
                    if not isinstance(error.__cause__, LockNotAvailable | DeadlockDetected):
                        raise
                    _roll_back(error)
                    message = f"{self._current} waited for a lock that {watcher.take_blocker()} holds"
                    if attempt == self.tries:
                        raise CommandError(
                            f"{message}. It was not applied. End that session or wait for it, then migrate again."
                        ) from error
                    pause_s = min(MAX_PAUSE_S, settings.FLEET_MIGRATE_LOCK_S * attempt)
                    self.stderr.write(
                        f"{message}; trying again in {humanise.duration(pause_s)} ({attempt + 1} of {self.tries})"
                    )
                    time.sleep(pause_s)
                else:
                    return

    def migration_progress_callback(self, action: str, migration: Migration | None = None, fake: bool = False) -> None:
        if action in ("apply_start", "unapply_start") and migration is not None:
            self._current = migration
            wait_s = settings.FLEET_MIGRATE_LOCK_S if migration.atomic else 0
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{wait_s * 1_000:.0f}ms"])
        self.show_progress(action, migration, fake)

    def show_progress(self, action: str, migration: Migration | None, fake: bool) -> None:
        """Print which migration is applied."""
        super().migration_progress_callback(action, migration, fake)


def _roll_back(error: Exception) -> None:
    """Roll back the transactions of a failed migration, which Django leaves open if its last statements fail."""
    while connection.atomic_blocks:
        connection.atomic_blocks[-1].__exit__(type(error), error, error.__traceback__)
