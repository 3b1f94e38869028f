"""A whole installation for tests of backups: its own database and folders, with data of every kind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.test import override_settings

from checkpoints import operations as checkpoints
from checkpoints.models import Checkpoint
from fleet import audit
from fleet.config.home import Home
from fleet.postgres import roles
from missions.models import Mission
from tests.support import artifacts, fleet, repository
from tests.support.postgres import databases
from tests.support.postgres.sealing import seal
from tests.support.work import landing

TEXT = b"The report of the first sortie.\n" * 40
# A restore ends sessions, interrupts running sorties, and records both.
CHANGED = {
    "fleet_event",
    "missions_sortie",
    "missions_attempt",
    "fleet_session",
    "django_session",
    "checkpoints_checkpoint",
}
_HASHES = "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t"


@dataclass(frozen=True, kw_only=True)
class Installation:
    """`folder` is that of its backups."""

    root: Path
    folder: Path
    mission: Mission
    checkpoint: Checkpoint
    artifact: str  # its digest

    @property
    def home(self) -> Home:
        return Home(self.root / "home")

    def wipe(self) -> None:
        """Delete everything except the backups."""
        clear_database()
        for folder in (self.home.root, settings.FLEET_CHECKPOINTS):
            shutil.rmtree(folder, ignore_errors=True)
        self.home.create_folders()

    def branch(self) -> repository.Branch:
        return repository.branch(self.mission)


def clear_database() -> None:
    connection.close()
    with roles.as_owner(), connection.cursor() as cursor:
        cursor.execute(
            "SET ROLE NONE; DROP SCHEMA fleet_audit CASCADE; DROP SCHEMA public CASCADE;"
            "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC"
        )


def hashes() -> dict[str, str]:
    """A hash of the rows of each table that a restore leaves as it was."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = sorted({table for (table,) in cursor.fetchall()} - CHANGED)
        digests = {}
        for table in tables:
            cursor.execute(_HASHES.format(table))
            digests[table] = str(cursor.fetchone()[0])
    return digests


@contextmanager
def populated(root: Path, blocker: Any) -> Iterator[Installation]:
    """An installation with a mission that has landed work, an artifact, a checkpoint and a sealed audit trail."""
    home, files = Home(root / "home"), root / "checkpoints"
    stores = {
        **settings.STORAGES,
        "artifacts": {
            **settings.STORAGES["artifacts"],
            "OPTIONS": {"location": home.artifacts, "file_permissions_mode": 0o600},
        },
        "checkpoints": {
            **settings.STORAGES["checkpoints"],
            "OPTIONS": {"location": files, "file_permissions_mode": 0o600},
        },
    }
    overrides = {"FLEET_HOME": home, "FLEET_CHECKPOINTS": files, "FLEET_BACKUPS": root / "backups", "STORAGES": stores}
    with override_settings(**overrides), databases.fresh(blocker):
        home.create_folders()
        project = repository.create(root / "project", {"a.txt": "a\n"})
        mission = fleet.launch(
            {"edit": {"run": "true"}, "next": {"run": "true", "needs": ["edit"]}, "last": {"needs": ["next"]}},
            workspace={"repository": str(project.path)},
        )
        assert landing.land(mission, "edit", "echo b > b.txt") == "succeeded"
        artifact = artifacts.add(mission.sorties.get(key="edit"), content=TEXT)
        checkpoint = checkpoints.capture(missions=[mission.id])
        audit.record(kind="test.backup", subject="something")
        seal()
        yield Installation(
            root=root, folder=root / "backups", mission=mission, checkpoint=checkpoint, artifact=artifact.digest
        )
