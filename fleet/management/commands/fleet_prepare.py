"""`manage.py fleet_prepare`: the step of `fleet_up` that prepares the database. It is idempotent."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from fleet.audit import protection
from fleet.backup import restoring
from fleet.management.commands import migrate
from fleet.management.operator import OperatorCommand
from fleet.postgres import locks, roles
from fleet.postgres.locks import Lock

ADMIN = "admin"


class Migrate(migrate.Command):
    """Like `manage.py migrate`, but prints its progress: the supervisor shows the last line while `fleet_up` waits."""

    applied = total = 0

    def show_progress(self, action: str, migration: Migration | None, fake: bool) -> None:
        if action != "apply_start":
            return
        if not self.total:
            executor = MigrationExecutor(connection)
            self.total = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        self.applied += 1
        self.stdout.write(f"applying migration {self.applied} of {self.total}: {migration}")
        self.stdout.flush()


class Command(OperatorCommand):
    acts_as_system = True
    help = (
        "Apply the migrations, protect the audit trail from the fleet's own role, and, if there is no superuser, create "
        "the first admin with the generated password."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--application-role",
            action="store_true",
            help="first create the role that DATABASE_URL names, or set its password, as the role of DATABASE_OWNER_URL",
        )

    def act(self, **options: Any) -> int:
        if options["application_role"]:
            roles.ensure_application_role()
        with locks.session(Lock.PREPARE):
            restoring.require_finished()
            call_command(Migrate(), interactive=False, verbosity=1, stdout=self.stdout, stderr=self.stderr)
            protection.record_protection()
            self._ensure_admin()
        return 0

    def _ensure_admin(self) -> None:
        users = get_user_model()._default_manager
        if not users.filter(is_superuser=True).exists():
            users.create_superuser(ADMIN, password=settings.FLEET_CREDENTIALS.admin_password)
            self.stdout.write(f"Created the first admin, {ADMIN!r}; the password is in the fleet's credentials file.")
