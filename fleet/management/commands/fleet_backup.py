"""`manage.py fleet_backup create|list|verify|restore`: backups of the whole installation (docs/backup.md)."""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings

from fleet import backup, errors
from fleet.backup import folder as folders
from fleet.backup.folder import LATEST, Backup
from fleet.backup.manifest import BackupDamaged
from fleet.console import arguments, invocation, lines
from fleet.host import processes
from fleet.management.operator import OperatorCommand
from fleet.services import composition, detached, foreground


class Command(OperatorCommand):
    help = (
        "Back up the database, artifacts, checkpoints and repositories of this fleet, verify backups and restore them."
    )

    def epilog(self) -> str:
        examples = (
            invocation.command("fleet_backup", "create", "--keep", "7"),
            invocation.command("fleet_backup", "verify", "latest"),
            invocation.command("fleet_backup", "restore", "latest"),
        )
        return "\n".join(("examples:", *(f"  {example}" for example in examples)))

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        def action(name: str, summary: str) -> ArgumentParser:
            description = f"{summary[:1].upper()}{summary[1:]}."
            parser: ArgumentParser = actions.add_parser(name, help=summary, description=description)
            parser.add_argument(
                "--folder", type=Path, default=None, help="the folder of backups (default: the setting FLEET_BACKUPS)"
            )
            parser.add_argument("--json", action="store_true", help="print one JSON document")
            return parser

        create = action("create", "write a backup; the fleet may keep running")
        create.add_argument(
            "--keep",
            type=arguments.count,
            metavar="N",
            help="afterwards remove all but the newest N backups of the folder",
        )
        create.add_argument(
            "--full", action="store_true", help="copy every file, instead of linking those that the newest backup has"
        )
        action("list", "list the backups, newest first")
        verify = action("verify", "read every byte of one or all backups; the exit code is 1 if one is damaged")
        restore = action("restore", "restore a backup into an empty database; the fleet must be stopped")
        verify.add_argument("backup", nargs="?", help="its name, its path, or `latest`; default: all backups")
        restore.add_argument("backup", nargs="?", default=LATEST, help="its name, its path, or `latest` (default)")
        restore.add_argument(
            "--force", default="", metavar="DATABASE", help="replace everything in the database with this name"
        )

    def act(self, **options: Any) -> int:
        folder = (options["folder"] or settings.FLEET_BACKUPS).expanduser().absolute()
        match options["action"]:
            case "list":
                return self._list(folder, as_json=options["json"])
            case "verify":
                return self._verify(folder, options["backup"], as_json=options["json"])
        if settings.FLEET_ENDPOINTS.provider != "external" and detached.running_status(settings.FLEET_HOME) is None:
            return self._run_with_services()
        if options["action"] == "create":
            return self._create(folder, keep=options["keep"], full=options["full"], as_json=options["json"])
        return self._restore(folder, options["backup"], force=options["force"], as_json=options["json"])

    def _run_with_services(self) -> int:
        """Start Postgres, because the fleet is stopped, and run this command again."""
        supervisor = composition.services(self.say)

        async def work() -> int:
            return await foreground.run(["fleet_backup", *sys.argv[2:]], until=supervisor.wait)

        processes.become_subreaper()
        return asyncio.run(supervisor.run(work))

    def _create(self, folder: Path, *, keep: int | None, full: bool, as_json: bool) -> int:
        if keep == 0:
            raise errors.Invalid("--keep must leave at least one backup.")
        created = backup.create(folder=folder, keep=keep, full=full, say=self.say)
        if as_json:
            summary = {"new_bytes": created.new_bytes, "removed": list(created.removed)}
            self.show({**_summary(created.backup), **summary})
            return 0
        manifest = created.backup.manifest
        new, total = lines.size(created.new_bytes), lines.size(manifest.total_bytes)
        self.stdout.write(f"{created.backup.path}: {lines.counted(len(manifest.files), 'file')}, {total} ({new} new)")
        if manifest.missing:
            self.say(f"{lines.counted(len(manifest.missing), 'file')} of removed missions are missing from it.")
        for name in created.removed:
            self.say(f"Removed {name}.")
        return 0

    def _list(self, folder: Path, *, as_json: bool) -> int:
        existing = folders.backups(folder)
        if as_json:
            self.show([_summary(item) for item in existing])
            return 0
        if not existing:
            self.say(f"There is no backup in {folder}. Create one: {invocation.command('fleet_backup', 'create')}")
            return 0
        rows: list[tuple[object, ...]] = []
        for item in existing:
            try:
                manifest = item.manifest
            except BackupDamaged as error:
                rows.append((item.name, "–", "–", "–", "–", f"damaged: {error}"))
                continue
            size, server = lines.size(manifest.total_bytes), manifest.server // 10_000
            rows.append((item.name, size, f"{len(manifest.files):,}", manifest.version, server, ""))
        header = ("NAME", "SIZE", "FILES", "FLEET", "POSTGRES", "")
        for line in lines.table(header, rows, width=lines.columns(self.stdout)):
            self.stdout.write(line)
        return 0

    def _verify(self, folder: Path, name: str | None, *, as_json: bool) -> int:
        selected = [folders.find(folder, name)] if name else folders.backups(folder)
        if not selected:
            folders.find(folder, LATEST)  # raises NotFound
        reports = [backup.verify(backup=item, say=self.say) for item in selected]
        if as_json:
            self.show([{"ok": not report.problems, **asdict(report)} for report in reports])
        else:
            for report in reports:
                for problem in report.problems:
                    self.stdout.write(f"{report.backup}  {problem.problem.upper():<10} {problem.message}")
                state = f"{lines.counted(len(report.problems), 'problem')} found" if report.problems else "intact"
                self.stdout.write(
                    f"{report.backup}  {state}: {lines.counted(report.files, 'file')}, {lines.size(report.bytes)} read"
                )
        return 1 if any(report.problems for report in reports) else 0

    def _restore(self, folder: Path, name: str, *, force: str, as_json: bool) -> int:
        restored = backup.restore(backup=folders.find(folder, name), force=force, say=self.say)
        if as_json:
            counts = {
                "rows": restored.rows,
                "files": restored.files,
                "audit_entries": restored.entries,
                "notes": list(restored.notes),
            }
            self.show({"backup": restored.backup.name, **counts})
        else:
            self.stdout.write(
                f"Restored {restored.backup.name}: {restored.rows:,} rows and {lines.counted(restored.files, 'file')}; "
                f"{restored.entries:,} entries of the audit trail match."
            )
        for note in restored.notes:
            self.say(note)
        for line in _next_steps():
            self.say(line)
        return 0


def _next_steps() -> list[str]:
    return [
        "All users must sign in again. Passwords and machine keys are those of the backup.",
        "If any were changed or revoked after the backup, repeat that:",
        f"  {invocation.command('fleet_key', 'list')}",
        f"Start the fleet; unfinished missions continue: {invocation.command('fleet_up', '--detach')}",
    ]


def _summary(item: Backup) -> dict[str, Any]:
    summary: dict[str, Any] = {"name": item.name, "path": str(item.path)}
    try:
        manifest = item.manifest
    except BackupDamaged as error:
        return {**summary, "damaged": str(error)}
    return {
        **summary,
        "damaged": "",
        "created_at": manifest.created_at,
        "version": manifest.version,
        "postgres": manifest.server // 10_000,
        "database": manifest.database,
        "files": len(manifest.files),
        "bytes": manifest.total_bytes,
        "missing": list(manifest.missing),
        "audit_head": manifest.head,
    }
