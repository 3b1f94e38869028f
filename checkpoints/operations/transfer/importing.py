"""Import an exported file as a new mission that belongs to the importer. Nothing in the file is trusted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import DatabaseError, connection, transaction

from checkpoints.document import Bucket, Manifest, archive, bucket_of
from checkpoints.document.archive import Readable
from checkpoints.document.buckets import Malformed, combined_digest
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from checkpoints.operations import capturing
from checkpoints.operations.transfer import checking, spooling, workspaces
from checkpoints.operations.transfer.spooling import BundleSpool, Spool
from checkpoints.rows import reading, writing
from checkpoints.rows import workspaces as saved_workspaces
from checkpoints.rows.writing import Target
from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.postgres import locks
from fleet.postgres.locks import Lock
from missions import folders, plan
from missions.models import Mission
from missions.operations import launching, permissions
from missions.operations.workspaces import preparing
from missions.plan import PlanError, SortieSpec
from missions.queries import plan_context
from missions.states import MissionState
from missions.workspaces import bundles

NO_SORTIE = UUID(int=0)  # no row has this id, so `put_back` copies the outcome to a new attempt
BAD_DATA = ("22", "23", "54")  # classes of SQLSTATE: data, constraints, limits of Postgres
_WORKSPACE = ',"workspace":'
EXPANSION = 2  # of the largest result and plan in a line, because Postgres adds spaces


class Refused(errors.Invalid):
    """This fleet cannot import the file."""


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

    Raises Refused (Invalid) with the reason if the file is not a complete and consistent export or exceeds a limit;
    Forbidden if it contains code and the importer lacks plan.execute; Invalid if the repository cannot be used; Conflict
    if an agent type is missing; Unavailable if the disk is full or the repository's server does not answer. In all these
    cases nothing is imported.
    """
    folder = _folder(folder, by)
    if team and by and not by.is_superuser and not by.groups.filter(id=team.id).exists():
        raise errors.Invalid(f"You are not in a team called {team.name!r}.", pointer="/team")
    with spooling.spool() as spool, spooling.bundle_spool() as bundle:
        with _translate_errors():
            content = _Content.read(file, spool, bundle)
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


@dataclass(slots=True, kw_only=True)
class _Content:
    """The checked content of a file: the lines of its mission, and its sorties."""

    manifest: Manifest
    mission_line: str  # the mission's state
    reason: str
    state: dict[str, str]
    sorties: dict[str, checking.ImportedSortie]
    workspace: dict[str, Any] | None  # the `workspace` part of the mission's state
    discarded: bool
    workspace_parts: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the sorties' kept lines

    @classmethod
    def read(cls, file: Readable, spool: Spool, bundle: BundleSpool) -> _Content:
        """Read and check a file. Raises Malformed, with the reason, if it cannot be imported."""
        reader = archive.Reader(
            file, max_bytes=settings.FLEET_IMPORT_FILE_BYTES, max_content=settings.FLEET_IMPORT_BYTES
        )
        manifest, entry = reader.entry()
        max_chars = EXPANSION * (settings.FLEET_RESULT_BYTES + settings.FLEET_PLAN_BYTES)
        mission_line, kept_line = _mission_lines(reader.blob(entry.mission), entry.mission.digest, max_chars)
        mission_state, mission_kept = checking.mission(mission_line, kept_line, plan_bytes=settings.FLEET_PLAN_BYTES)
        _check_defaults(mission_state)
        state: dict[str, str] = {}
        sorties: dict[str, checking.ImportedSortie] = {}
        for number, part in sorted(entry.buckets.items()):
            bucket = _bucket(reader.blob(part), number, part.digest)
            if len(sorties) + len(bucket.state) > settings.FLEET_MAX_SORTIES:
                raise Malformed(f"the mission has more than {settings.FLEET_MAX_SORTIES:,} sorties")
            for key, line in bucket.state.items():
                if len(line) + len(bucket.kept[key]) > max_chars:
                    raise Malformed(f"the sortie {key[:100]!r} has more than {max_chars:,} characters")
                sorties[key] = checking.sortie(line, bucket.kept[key], result_bytes=settings.FLEET_RESULT_BYTES)
            state |= bucket.state
        limits = plan_context.without_database()
        checking.check_graph(
            sorties, state=mission_state["state"], max_sorties=limits.max_sorties, max_needs=limits.max_needs
        )
        workspace = mission_state.get("workspace")
        if workspace is None and any(sortie.workspace or sortie.workspace_kept for sortie in sorties.values()):
            raise Malformed("its sorties have changes, but the mission has no workspace")
        if workspace is not None and workspaces.commits_of(workspace, sorties.values()):
            reader.commits(bundle.receive)
        sizes = _artifact_sizes(sorties)
        reader.artifacts(sizes, spool.add)
        return cls(
            manifest=manifest,
            mission_line=mission_line,
            reason=mission_kept.get("reason", ""),
            state=state,
            sorties=sorties,
            workspace=workspace,
            discarded=workspace is not None and mission_kept.get("workspace", {}).get("discarded", False),
        )

    def require_rights(self, *, can_execute: bool) -> None:
        """Raise Forbidden if the mission runs code and the importer may not. Ended sorties count: they can be retried."""
        if can_execute:
            return
        if self.workspace is not None or any(sortie.spec.runs_code for sortie in self.sorties.values()):
            raise permissions.refusal()

    def require_references(self) -> None:
        """Raise Conflict if a sortie that has not ended needs something that this fleet does not have."""
        context = plan_context.current()
        types = context.types or {}
        drivers = {"prompt", *context.drivers}
        missing: set[str] = set()
        for spec in (sortie.spec for sortie in self.sorties.values() if not sortie.ended):
            if spec.agent_type not in types:
                missing.add(f"the agent type {spec.agent_type}")
            elif spec.prompt is not None and not types[spec.agent_type].takes_prompt:
                missing.add(f"a prompt command of the agent type {spec.agent_type}")
            if spec.driver not in drivers:
                missing.add(f"the driver {spec.driver}")
            if spec.call is not None and spec.call not in context.callables:
                missing.add(f"the callable {spec.call}")
        if missing:
            raise errors.Conflict(
                f"This fleet does not have what the mission needs: {', '.join(sorted(missing)[:5])}.",
                hint="Create agent types in the admin, and name callables in FLEET_CALLABLES; then import it again.",
            )

    def use_repository(
        self, repository: str, bundle: BundleSpool, *, specs: Sequence[SortieSpec], folder: str, by: User | None
    ) -> None:
        """Check the workspace against the repository that the importer names, and copy the commits to its mirror."""
        if self.workspace is None:
            if repository:
                raise errors.Invalid(
                    "The mission has no workspace, so it uses no repository.",
                    hint="Import it without a repository.",
                    pointer="/repository",
                )
            return
        path, store = preparing.for_import(
            repository=repository,
            base_commit=self.workspace["base_commit"],
            specs=specs,
            folder=folder,
            operator=by is None,
        )
        with _translate_errors():
            usable = workspaces.receive(bundle, state=self.workspace, sorties=self.sorties, store=store)
            self.workspace["repository"] = path
            for key, sortie in self.sorties.items():
                parts = workspaces.parts_of(sortie, usable=usable)
                if parts.kept is not None:
                    self.workspace_parts[key] = parts.kept
                if sortie.workspace is not None and parts.state != sortie.workspace:
                    self.state[key] = _with_part(self.state[key], parts.state, f"the sortie {key[:100]!r}")

    def drop_artifacts(self, available: set[str]) -> list[str]:
        """Leave out the artifacts that are not available, and return them as `sortie: path`."""
        dropped: list[str] = []
        for key, sortie in self.sorties.items():
            lost_paths = {file.path for file in sortie.artifacts if file.digest not in available}
            if not lost_paths:
                continue
            files = json.loads(self.state[key])["artifacts"]
            remaining = [file for file in files if file["path"] not in lost_paths]
            head, separator, tail = self.state[key].rpartition(_WORKSPACE)
            line = f"{head}}}" if separator else tail
            ending = f'"artifacts":{json.dumps(files, ensure_ascii=False)}}}'
            if not line.endswith(ending):
                raise _refusal(f"a line of the sortie {key!r} does not have the form that a fleet writes")
            new_ending = f'"artifacts":{json.dumps(remaining, ensure_ascii=False)}}}'
            line = line.removesuffix(ending) + new_ending
            self.state[key] = f"{line[:-1]}{separator}{tail}" if separator else line
            dropped += (f"{key}: {path}" for path in sorted(lost_paths))
        return dropped

    @property
    def own_line(self) -> str:
        """The mission's state without its workspace."""
        return _with_part(self.mission_line, None, "the mission") if self.workspace is not None else self.mission_line

    def mission_lines(self) -> str:
        """The mission's two lines, the second one without anything that the file could misuse."""
        keys = {
            spec.concurrency.key: spec.concurrency.limit
            for spec in (sortie.spec for sortie in self.sorties.values())
            if spec.concurrency
        }
        return f"{self.own_line}\n{json.dumps({'concurrency_keys': keys, 'finished_at': None})}\n"

    def targets(self) -> list[Target]:
        return [
            Target(
                sortie=ids.new(),
                created=True,
                wait_until=None,
                state=line,
                kept=json.dumps(_kept(self.sorties[key], self.workspace_parts.get(key))),
            )
            for key, line in self.state.items()
        ]

    def digest(self, mission_line: str) -> str:
        """The digest that the new rows must have if `mission_line` is the mission's state."""
        buckets: dict[int, Bucket] = {}
        for key, line in self.state.items():
            buckets.setdefault(bucket_of(key), Bucket()).state[key] = line
        return combined_digest(
            mission=hashlib.sha256(mission_line.encode()).hexdigest(),
            buckets={number: bucket.digest() for number, bucket in buckets.items()},
        )


def _mission_lines(text: str, digest: str, max_chars: int) -> tuple[str, str]:
    lines = text.split("\n")
    if len(lines) != 3 or lines[2] or len(text) > max_chars:
        raise Malformed("the mission's blob does not consist of two lines, or is too large")
    if hashlib.sha256(lines[0].encode()).hexdigest() != digest:
        raise Malformed("the digest of the mission's state does not match")
    return lines[0], lines[1]


def _bucket(text: str, number: int, digest: str) -> Bucket:
    try:
        bucket = Bucket.parse(text)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"bucket {number:02x} has a line without a key") from error
    if bucket.state.keys() != bucket.kept.keys() or bucket.text() != text:
        raise Malformed(f"bucket {number:02x} does not have two lines for each sortie")
    if bucket.digest() != digest:
        raise Malformed(f"the digest of bucket {number:02x} does not match")
    if any(bucket_of(key) != number for key in bucket.state):
        raise Malformed(f"bucket {number:02x} has a sortie that belongs in another bucket")
    return bucket


def _check_defaults(mission_state: Mapping[str, Any]) -> None:
    """Raise Malformed unless the defaults are valid in a plan: they apply to sorties that agents add later."""
    data = {
        "mission": "import",
        "inputs": {name: {} for name in mission_state["inputs"]},
        "defaults": mission_state["defaults"],
        "sorties": {"any": {"agent": "any", "run": "true"}},
    }
    try:
        plan.from_data(data=data, context=plan_context.without_database())
    except PlanError as error:
        raise Malformed(f"the mission's defaults are not those of a plan: {error.problems[0]}") from error


def _artifact_sizes(sorties: Mapping[str, checking.ImportedSortie]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for sortie in sorties.values():
        for file in sortie.artifacts:
            if sizes.setdefault(file.digest, file.size) != file.size:
                raise Malformed(f"the artifact {file.digest[:12]}… has two sizes")
    return sizes


def _with_part(line: str, part: Mapping[str, Any] | None, where: str) -> str:
    try:
        return saved_workspaces.with_part(line, part)
    except ValueError as error:
        raise Malformed(f"a line of {where} does not have the form that a fleet writes") from error


def _kept(sortie: checking.ImportedSortie, workspace: Mapping[str, Any] | None) -> dict[str, Any]:
    """The kept line that `put_back` needs. Only the outcome in it comes from the file."""
    kept, attempted = sortie.kept, sortie.kept["attempted"]
    started, finished, outcome_at = (
        checking.parse_time(kept[name]) for name in ("started_at", "finished_at", "outcome_at")
    )
    run_at = None if sortie.ended else sortie.spec.run_at
    return {
        "sortie": str(NO_SORTIE),
        "accepted": int(attempted) if sortie.ended else None,
        "state": "pending" if sortie.state == "pending" else "ready",
        "waits_for": "the time set by its plan (run_at)",
        "wake_at": run_at.isoformat() if run_at else None,
        "ready_at": None,
        "started_at": started.isoformat() if started else None,
        "finished_at": finished.isoformat() if finished else None,
        "outcome": kept["outcome"] if attempted else None,
        "outcome_at": outcome_at.isoformat() if outcome_at else None,
        **{name: kept[name] if attempted else None for name in ("exit_code", "cpu_s", "max_rss_bytes")},
        "note": (attempted and kept["note"]) or "",
        **({"workspace": workspace} if workspace is not None else {}),
    }


def _create(
    content: _Content, *, by: User | None, can_execute: bool, folder: str, team: Group | None, missing: int
) -> tuple[Mission, Checkpoint]:
    """Create the rows, check their digest, and capture them, all in one transaction."""
    id, checkpoint_id = ids.new(), ids.new()
    changes = {"folder": folder, "readable": []}
    checkpoint = None
    try:
        with _translate_errors(), transaction.atomic(durable=True), connection.cursor() as cursor:
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
            writing.put_back(mission=id, targets=content.targets(), origin=turn, checkpoint=content.manifest.id)
            if content.workspace is not None:
                branch = preparing.default_branch(id)
                kept = {"branch": branch, "discarded": content.discarded}
                saved_workspaces.put_back_parts(content.workspace, kept, mission=id, replaced="")
                mission_line = saved_workspaces.append_part(mission_line, content.workspace)
            current = reading.mission(id)
            if current.entry({}).digest != content.digest(mission_line):
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


def _record_import(checkpoint: Checkpoint, mission: UUID, content: _Content, missing: int) -> None:
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


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise Refused for every error of the file, including those that only Postgres detects."""
    try:
        yield
    except (Malformed, bundles.Refused) as error:
        raise _refusal(str(error)) from error
    except DatabaseError as error:
        state = getattr(error.__cause__, "sqlstate", None) or ""
        if not state.startswith(BAD_DATA):
            raise
        raise _refusal("Postgres does not accept its data") from error


def _refusal(reason: str) -> Refused:
    return Refused(f"The file cannot be imported: {reason}.", hint="Nothing was imported. Export the mission again.")
