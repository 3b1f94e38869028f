"""`manage.py migrate`: Django's own command, run as the owner of the database; then grants the application's rights."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate

from fleet.audit import protection
from fleet.postgres import roles


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        if options["plan"] or options["check_unapplied"]:
            super().handle(*args, **options)
            return
        roles.convert()
        with roles.as_owner():
            super().handle(*args, **options)
            roles.grant()
            protection.protect()
