"""The content of an exported file, checked and adapted to this fleet before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import DatabaseError

from checkpoints.document import Bucket, CheckpointManifest, archive, bucket_of
from checkpoints.document.buckets import Malformed, combined_digest
from checkpoints.operations.transfer import checking, workspaces
from checkpoints.operations.transfer.spooling import BundleSpool, Spool
from checkpoints.rows import workspaces as saved_workspaces
from checkpoints.rows.writing import SortieTarget
from fleet import errors, ids
from fleet.streams import Readable
from missions import plan
from missions.operations import permissions
from missions.operations.workspaces import preparing
from missions.plan import PlanError, SortieSpec
from missions.queries import plan_context
from missions.workspaces import bundles

NO_SORTIE = UUID(int=0)  # no row has this id, so `put_back` copies the outcome to a new attempt
BAD_DATA = ("22", "23", "54")  # classes of SQLSTATE: data, constraints, limits of Postgres
_WORKSPACE = ',"workspace":'
EXPANSION = 2  # of the largest result and plan in a line, because Postgres adds spaces


class ImportRefused(errors.Invalid):
    """This fleet cannot import the file."""


@dataclass(slots=True, kw_only=True)
class Content:
    """The checked content of a file: the lines of its mission, and its sorties."""

    manifest: CheckpointManifest
    mission_line: str  # the mission's state
    reason: str
    state: dict[str, str]
    sorties: dict[str, checking.ImportedSortie]
    workspace: dict[str, Any] | None  # the `workspace` part of the mission's state
    discarded: bool
    workspace_parts: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the sorties' kept lines

    @classmethod
    def read(cls, file: Readable, spool: Spool, bundle: BundleSpool) -> Content:
        """Read and check a file. Raises Malformed, with the reason, if it cannot be imported."""
        reader = archive.ArchiveReader(
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
        path, mirror = preparing.for_import(
            repository=repository,
            base_commit=self.workspace["base_commit"],
            specs=specs,
            folder=folder,
            operator=by is None,
        )
        with translate_errors():
            usable = workspaces.receive(bundle, state=self.workspace, sorties=self.sorties, mirror=mirror)
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

    def targets(self) -> list[SortieTarget]:
        return [
            SortieTarget(
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


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise ImportRefused for every error of the file, including those that only Postgres detects."""
    try:
        yield
    except (Malformed, bundles.BundleRefused) as error:
        raise _refusal(str(error)) from error
    except DatabaseError as error:
        state = getattr(error.__cause__, "sqlstate", None) or ""
        if not state.startswith(BAD_DATA):
            raise
        raise _refusal("Postgres does not accept its data") from error


def _refusal(reason: str) -> ImportRefused:
    return ImportRefused(
        f"The file cannot be imported: {reason}.", hint="Nothing was imported. Export the mission again."
    )
