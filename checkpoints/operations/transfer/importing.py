"""Import an exported file as a new mission that belongs to the importer. Nothing in the file is trusted."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db import connection, transaction

from checkpoints.document.buckets import Malformed
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from checkpoints.operations import capturing
from checkpoints.operations.transfer import spooling
from checkpoints.operations.transfer.content import Content, translate_errors
from checkpoints.rows import reading, writing
from checkpoints.rows import workspaces as saved_workspaces
from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.postgres import locks
from fleet.postgres.locks import Lock
from fleet.streams import Readable
from missions import folders
from missions.models import Mission
from missions.operations import launching
from missions.operations.workspaces import preparing
from missions.states import MissionState


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """A new mission, and its first checkpoint. `missing` lists the artifacts that were left out, as `sortie: path`."""

    mission: Mission
    checkpoint: Checkpoint
    missing: tuple[str, ...]


def import_file(
    *,
    file: Readable,
    by: User | None,
    can_execute: bool,
    folder: str = "",
    repository: str = "",
    team: Group | None = None,
) -> ImportResult:
    """Create a mission from an exported file. `by` is None for the host's operator.

    Nothing in the file is trusted; every part is checked before anything is written. The mission equals the one in the
    file, except for what is replaced:

    - Owner, team and rights are the importer's; ids are new; there is no template. A mission that was live is planned.
    - `folder` is the parameter, under the rules of a launch. `readable` is empty, so no path in the file is ever used.
    - `repository` is the parameter, under the rules of a launch with a workspace; it must have the mission's base commit.
      A mission has it exactly if it has a workspace. The branch is its own.
    - Of changes and conflicts, commits that are neither in the file nor in the history of the base are left out: knowing
      the id of another mission's commit would be enough to read it. See `workspaces.parts_of` for the rest.
    - Artifacts whose bytes are neither in the file nor in a mission that the importer may see are left out and listed.
      Otherwise knowing the digest of somebody else's artifact would be enough to read it.

    The digest of the new rows must be the digest of the file after these replacements; without any, it is the file's.
    Attempt numbers, agents, leases and the resume data of drivers are ignored. A backoff ends; `run_at` still applies.
    The first checkpoint is made from the new rows, so a restore does not bring back what was replaced.

    Raises ImportRefused (Invalid) with the reason if the file is not a complete and consistent export or exceeds a limit;
    Forbidden if it contains code and the importer lacks plan.execute; Invalid if the repository cannot be used; Conflict
    if an agent type is missing; Unavailable if the disk is full or the repository's server does not answer. In all these
    cases nothing is imported.
    """
    folder = _folder(folder, by)
    if team and by and not by.is_superuser and not by.groups.filter(id=team.id).exists():
        raise errors.Invalid(f"You are not in a team called {team.name!r}.", pointer="/team")
    with spooling.spool() as spool, spooling.bundle_spool() as bundle:
        with translate_errors():
            content = Content.read(file, spool, bundle)
        content.require_rights(can_execute=can_execute)
        content.require_references()
        specs = [sortie.spec for sortie in content.sorties.values() if not sortie.ended]
        folders.check_prompts(specs=specs, folder=folder, workspace=content.workspace is not None)
        content.use_repository(repository, bundle, specs=specs, folder=folder, by=by)
        missing = content.drop_artifacts(
            spooling.readable_artifacts(
                {file.digest for sortie in content.sorties.values() for file in sortie.artifacts}, spool, by
            )
        )
        with locks.session(Lock.CHECKPOINTS, shared=True), spooling.store_artifacts(spool):
            mission, checkpoint = _create(
                content, by=by, can_execute=can_execute, folder=folder, team=team, missing=len(missing)
            )
    return ImportResult(mission=mission, checkpoint=checkpoint, missing=tuple(missing))


def _create(
    content: Content, *, by: User | None, can_execute: bool, folder: str, team: Group | None, missing: int
) -> tuple[Mission, Checkpoint]:
    """Create the rows, check their digest, and capture them, all in one transaction."""
    id, checkpoint_id = ids.new(), ids.new()
    changes = {"folder": folder, "readable": []}
    checkpoint = None
    try:
        with translate_errors(), transaction.atomic(durable=True), connection.cursor() as cursor:
            cursor.execute(
                "SELECT %(line)s::jsonb::text = %(line)s, (%(line)s::jsonb || %(changes)s::jsonb)::text",
                {"line": content.own_line, "changes": json.dumps(changes)},
            )
            canonical, mission_line = cursor.fetchone()
            if not canonical:
                raise Malformed("the line of the mission does not have the form that a fleet writes")
            writing.create_mission(
                mission=id,
                mission_lines=content.mission_lines(),
                checkpoint=content.manifest.id,
                state_if_live=MissionState.PLANNED,
                can_execute=can_execute,
                origin=f"import of {content.manifest.missions[0].id} at {content.manifest.id}",
                reason=content.reason if json.loads(content.mission_line)["state"] != "live" else "",
                owner=by.id if by else None,
                team=team.id if team else None,
                changes=changes,
            )
            turn, _ = launching.fair_turn(cursor)
            targets = writing.TargetTable(content.targets())
            writing.put_back(mission=id, targets=targets, origin=turn, checkpoint=content.manifest.id)
            if content.workspace is not None:
                branch = preparing.default_branch(id)
                kept = {"branch": branch, "discarded": content.discarded}
                saved_workspaces.put_back_parts(content.workspace, kept, mission=id, replaced="")
                mission_line = saved_workspaces.append_part(mission_line, content.workspace)
            current = reading.mission(id)
            if current.digest() != content.digest(mission_line):
                raise Malformed(
                    "its lines do not have the form that a fleet writes, so the new rows would differ from them"
                )
            checkpoint = capturing.store(
                id=checkpoint_id,
                missions=[current],
                snapshot=reading.current_snapshot(),
                trigger=Checkpoint.Trigger.IMPORT,
                note=f"As imported from a file of {content.manifest.id}.",
                by=by,
            )
            _record_import(checkpoint, id, content, missing)
    except BaseException:
        if checkpoint is not None:
            storage.remove_manifest(checkpoint.ref)
        if content.workspace is not None:
            saved_workspaces.release_commits(
                checkpoint=ids.encode(ids.CHECKPOINT, checkpoint_id), repository=content.workspace["repository"]
            )
        raise
    if content.workspace is not None:
        _complete(id, content.workspace["repository"])
    return Mission.objects.get(id=id), checkpoint


def _complete(mission: UUID, repository: str) -> None:
    """Create the branch, and refs for unmerged work. If this fails, the control loop creates the branch, and the first
    checkpoint keeps the work."""
    saved_workspaces.complete(mission)
    with suppress(errors.FleetError):
        saved_workspaces.keep_unmerged(mission, repository=repository)


def _record_import(checkpoint: Checkpoint, mission: UUID, content: Content, missing: int) -> None:
    origin = {"from": content.manifest.id, "from_mission": content.manifest.missions[0].id}
    Event.objects.create(
        kind="checkpoint.imported",
        scope=mission,
        subject=checkpoint.id,
        data={"checkpoint": checkpoint.ref, **origin, "missing_artifacts": missing},
    )
    audit.record(
        kind="checkpoint.import",
        subject=checkpoint.ref,
        after={
            "mission": ids.encode(ids.MISSION, mission),
            **origin,
            "sorties": len(content.sorties),
            "missing_artifacts": missing,
            **({"repository": content.workspace["repository"]} if content.workspace is not None else {}),
        },
    )


def _folder(folder: str, by: User | None) -> str:
    """The folder of the new mission, as for a launch."""
    if by is not None:
        return folders.folder_for_api(folder)
    if folder and not os.path.isabs(folder):
        raise errors.Invalid(f"The folder {folder!r} is not an absolute path.", pointer="/folder")
    return os.path.normpath(folder) if folder else ""
