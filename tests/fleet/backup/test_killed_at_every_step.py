"""A process that is killed (SIGKILL) at any step of a backup or a restore leaves everything usable."""

from __future__ import annotations

import pytest
from django.db import connection

from fleet import backup, errors
from fleet.backup import Backup, folder
from missions.models import Mission
from tests.support import fleet
from tests.support.processes import killing
from tests.support.processes.installation import Installation, hashes

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.timeout(600),
]


def test_a_killed_backup_leaves_nothing_that_is_listed(installation: Installation) -> None:
    kills = 0
    for _ in killing.at_each_step(lambda: backup.create(folder=installation.folder), folder=installation.folder):
        kills += 1
        for copy in folder.backups(installation.folder):  # only if it was killed after the backup was complete
            assert backup.verify(backup=copy).problems == []
    assert kills > 20
    report = backup.create(folder=installation.folder, keep=1)
    assert [path.name for path in installation.folder.iterdir() if path.is_dir()] == [report.backup.name]


def test_a_killed_restore_changes_everything_or_nothing_and_can_be_repeated(installation: Installation) -> None:
    before = hashes()
    snapshot = backup.create(folder=installation.folder).backup
    fleet.launch({"later": {}})
    name = connection.settings_dict["NAME"]
    outcomes = set()
    for _ in killing.at_each_step(lambda: backup.restore(backup=snapshot, force=name), folder=installation.root):
        connection.close()
        try:
            later = Mission.objects.count() == 2
        except Exception:  # killed between the transaction and the migrations: no permissions are granted yet
            connection.close()
            later = False
        outcomes.add(later)
        if not later:
            backup.restore(backup=Backup(snapshot.path))  # needs no force, because the database is marked as unfinished
            assert {key: value for key, value in hashes().items() if key in before} == before
            fleet.launch({"later": {}})
    assert outcomes == {True, False}
    with pytest.raises(errors.Conflict, match="is not empty"):
        backup.restore(backup=snapshot)
