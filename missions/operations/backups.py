"""The parts of a backup that belong to missions (artifacts and mirrors), and the steps after a restore."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from django.conf import settings

from fleet import errors, ids
from fleet.backup import copying, hooks, parts
from fleet.backup.parts import ContentFolder, Query, SourceFile
from missions.models import Change, Workspace
from missions.states import FINAL_MISSION_STATES
from missions.workspaces import moving
from missions.workspaces.repositories import git, mirrors

REFS, SHALLOW = "packed-refs", "shallow"
_FILES = ("HEAD", "config", SHALLOW)  # besides objects and refs
_TEMPORARY = ("tmp_", ".tmp-")  # name prefixes of files that git has not completed


class Mirrors:
    """The mirrors of repositories. Refs are read before objects, which never change, so no ref lacks an object."""

    name = "repositories"

    def required(self, query: Query) -> set[str]:
        return set()

    def entries(self, required: Collection[str]) -> Iterator[SourceFile]:
        for mirror in mirrors.existing():
            refs = git.run("for-each-ref", "--format=%(objectname) %(refname)", at=mirror)
            yield SourceFile(f"{mirror.name}/{REFS}", b"# pack-refs with: sorted \n" + refs)
            for name in _FILES:
                if (mirror / name).is_file():
                    yield SourceFile(f"{mirror.name}/{name}", (mirror / name).read_bytes())
            for file in copying.walk(mirror / "objects"):
                if not file.name.startswith(_TEMPORARY):
                    yield SourceFile(f"{mirror.name}/{file.relative_to(mirror).as_posix()}", file)

    def put_back(self, path: str, source: Path, *, sha256: str) -> None:
        target = settings.FLEET_HOME.repositories / path
        if target.name != REFS or not target.exists():
            copying.put_back(source, target, sha256=sha256)

    def finish(self, folder: Path, *, backup: str) -> None:
        """Replace the refs of the mirrors by those of the backup. The former refs are kept in `refs-before-BACKUP`."""
        for saved in sorted(folder.glob(f"*.git/{REFS}")):
            mirror = settings.FLEET_HOME.repositories / saved.parent.name
            _create_folders(mirror)
            with mirrors.lock(mirror.with_suffix(".refs-lock"), within_s=git.NETWORK_TIMEOUT_S):
                before = mirror / f"refs-before-{backup}"
                if not before.exists():
                    before.write_bytes(git.run("for-each-ref", "--format=%(objectname) %(refname)", at=mirror))
                draft = mirror / f"{REFS}.restored"
                shutil.copyfile(saved, draft)
                draft.replace(mirror / REFS)
                for child in (mirror / "refs").iterdir():
                    shutil.rmtree(child, ignore_errors=True)

    def problems(self, folder: Path) -> Iterator[tuple[str, str]]:
        for mirror in sorted(folder.glob("*.git")):
            if reason := _missing_objects(mirror):
                yield mirror.name, f"repositories/{mirror.name} is incomplete: {reason}"


def _missing_objects(mirror: Path) -> str:
    """What git says about objects that a mirror in a backup lacks, although its refs need them; "" if it has all.

    Only its refs and objects are read, from a new repository: its configuration could make git run programs.
    """
    refs = (mirror / REFS).read_bytes() if (mirror / REFS).is_file() else b""
    _, _, first = refs.partition(b"\n")
    if not first:
        return ""
    with tempfile.TemporaryDirectory(prefix="fleet-backup-") as scratch:
        repository = Path(scratch) / "verified.git"
        mirrors.initialize(repository, sha256=len(first.split(b" ")[0]) == mirrors.SHA256)
        (repository / REFS).write_bytes(refs)
        if (mirror / SHALLOW).is_file():
            (repository / SHALLOW).write_bytes((mirror / SHALLOW).read_bytes())
        completed = git.execute(
            *("rev-list", "--objects", "--all", "--quiet"),
            at=repository,
            env={"GIT_OBJECT_DIRECTORY": str(mirror / "objects")},
            timeout_s=git.NETWORK_TIMEOUT_S,
        )
    return completed.stderr.decode("utf-8", "replace").strip()[-300:] if completed.returncode else ""


def _create_folders(mirror: Path) -> None:
    """Create the folders that git requires in a repository. A backup omits empty ones."""
    for name in ("objects", "refs"):
        (mirror / name).mkdir(mode=0o700, exist_ok=True)


def align_branches() -> Iterator[str]:
    """Move branches of live missions to the commits in their restored rows. Work that landed later is done again."""
    live = Workspace.objects.filter(discarded_at=None).exclude(mission__state__in=FINAL_MISSION_STATES)
    for workspace in live:
        changes = Change.objects.filter(sortie__mission=workspace.mission_id).values_list("landed", "onto")
        landed = {commit for pair in changes for commit in pair if commit}
        mirror = mirrors.of(workspace.repository)
        tip = moving.tip(workspace, landed=landed)
        if mirrors.find_tip(mirror, workspace.branch) in ("", tip):
            continue
        mission = ids.encode(ids.MISSION, workspace.mission_id)
        workspace.restore_to, workspace.restore_ref = tip, f"refs/fleet/restored/{mission}/{tip}"
        workspace.save(update_fields=["restore_to", "restore_ref"])
        try:
            moving.complete(workspace)
        except errors.FleetError as error:
            yield f"The branch {workspace.branch} could not be moved back: {error}"
        else:
            yield f"The branch {workspace.branch} was moved back to {tip[:12]}, the commit in the restored rows."


def register() -> None:
    parts.register(
        ContentFolder(
            name="artifacts",
            home=lambda: settings.FLEET_HOME.artifacts,
            statement="SELECT DISTINCT digest FROM missions_artifact",
            path=lambda digest: f"{digest[:2]}/{digest}",
            includes=lambda path, required: not path.startswith("drafts/"),
        )
    )
    parts.register(Mirrors())
    hooks.register_after_restore("missions.operations", "fence_restored")
    hooks.register_after_migrations(align_branches)
