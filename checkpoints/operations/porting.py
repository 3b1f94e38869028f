"""Export a mission of a checkpoint as one file, and import such a file as a mission of the importer's own.

`checkpoints.document.archive` has the format of the file. Whoever can read it can read everything in the mission,
including the secrets in its plan.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.files import File
from django.db import DatabaseError, connection, transaction
from django.db.models import Q

from checkpoints import checking, loading, reading, storage, writing
from checkpoints.document import Bucket, Manifest, MissionEntry, archive, bucket_of
from checkpoints.document.archive import Readable, Writable
from checkpoints.document.buckets import Malformed, combined_digest
from checkpoints.models import Checkpoint
from checkpoints.operations import capturing
from checkpoints.writing import Target
from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.postgres import locks
from fleet.postgres.locks import Lock
from missions import folders, plan
from missions.artifacts import collection
from missions.models import Artifact, Mission
from missions.operations import launching, rights
from missions.plan import PlanError
from missions.queries import plan_context
from missions.states import MissionState

NOBODY = UUID(int=0)  # no row has this id, so `put_back` copies the outcome to a new attempt
BAD_DATA = ("22", "23", "54")  # classes of SQLSTATE: data, constraints, limits of Postgres
# Of a sortie's line: the longest texts that it repeats are a result and a plan, and Postgres adds spaces.
EXPANSION = 2


class Refused(errors.Invalid):
    """The file is not one that this fleet can import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export wrote. `missing` are the artifacts that the store has lost, as `sortie: path`."""

    mission: str
    bytes: int
    sorties: int
    artifacts: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A new mission, and its first checkpoint. `missing` are the artifacts that were left out, as `sortie: path`."""

    mission: Mission
    checkpoint: Checkpoint
    missing: tuple[str, ...]


def export(*, checkpoint: Checkpoint, out: Writable, mission: UUID | None = None, artifacts: bool = False) -> Exported:
    """Write a mission of a checkpoint to `out`, with the bytes of its artifacts if they are wanted and still stored.

    The same checkpoint always gives the same bytes. At most one blob is in memory. Takes no lock, because a slow
    reader would hold up every capture; if the checkpoint is deleted meanwhile, the export fails.

    Damaged if a file of the checkpoint is missing or was changed; `out` then has an incomplete file, which no import
    accepts. Invalid if there are several missions and none is named.
    """
    stored = storage.read_manifest(checkpoint.ref)
    entry = loading.entry(stored, mission)
    entry = replace(entry, buckets=dict(sorted(entry.buckets.items())))
    _record_export(checkpoint, entry, artifacts=artifacts)
    writer = archive.Writer(out)
    writer.manifest(replace(stored, missions=(entry,), parent=None, fleet=None, context=None))
    files: dict[str, int] = {}
    names: dict[str, str] = {}
    for part in archive.parts(entry):
        text = storage.read(part)
        writer.blob(part, text.encode())
        if artifacts and part is not entry.mission:
            for key, line in Bucket.parse(text).state.items():
                for file in json.loads(line)["artifacts"]:
                    files[file["digest"]] = file["size"]
                    names.setdefault(file["digest"], f"{key}: {file['path']}")
    missing = [name for digest, name in sorted(names.items()) if not _export_artifact(writer, digest, files[digest])]
    writer.close()
    return Exported(
        mission=entry.id,
        bytes=writer.bytes,
        sorties=sum(entry.counts.values()),
        artifacts=len(files) - len(missing),
        missing=tuple(missing),
    )


def import_file(
    *, file: Readable, by: User | None, executes: bool, folder: str = "", team: Group | None = None
) -> Imported:
    """Create a mission from an exported file. `by` None: the host's operator imports it.

    Nothing in the file is trusted; every part is checked before anything is written. The mission is as the file has
    it, except for what is replaced:

    - ids, owner, team, template and rights: those of the importer. A mission that was live is planned.
    - `folder`: the parameter, under the rules of a launch. `readable`: empty, so no path of the file is ever used.
    - artifacts whose bytes are neither in the file nor in a mission that the importer may see: left out, and listed.
      Otherwise a digest in a file would be enough to read somebody else's artifact.

    The digest of the new rows must be that of the file after these replacements; without any, it is the file's digest.
    Attempt numbers, agents, leases and what drivers need to continue are ignored. A backoff ends; `run_at` still
    applies. The first checkpoint is made from the new rows, so that a restore does not bring back what was replaced.

    Refused (Invalid) with the reason if the file is not a complete and consistent export or exceeds a limit; Forbidden
    if it contains code and the importer lacks plan.execute; Conflict if an agent type is missing; Unavailable if the
    disk is full. Nothing is imported in all these cases.
    """
    folder = _folder(folder, by)
    if team and by and not by.is_superuser and not by.groups.filter(id=team.id).exists():
        raise errors.Invalid(f"You are not in a team called {team.name!r}.", pointer="/team")
    with _spool() as spool:
        with _refused():
            content = _Content.read(file, spool)
        content.require_rights(executes=executes)
        content.require_references()
        specs = [sortie.spec for sortie in content.sorties.values() if not sortie.ended]
        folders.check_prompts(specs=specs, folder=folder)
        missing = content.drop_artifacts(_readable_digests(content, spool, by))
        with locks.session(Lock.CHECKPOINTS, shared=True), _stored_artifacts(spool):
            mission, checkpoint = _create(
                content, by=by, executes=executes, folder=folder, team=team, missing=len(missing)
            )
    return Imported(mission=mission, checkpoint=checkpoint, missing=tuple(missing))


# Export


def _record_export(checkpoint: Checkpoint, entry: MissionEntry, *, artifacts: bool) -> None:
    """Before the first byte leaves, since an interrupted export has revealed something too."""
    with transaction.atomic():
        Event.objects.create(
            kind="checkpoint.exported",
            scope=ids.decode(ids.MISSION, entry.id),
            subject=checkpoint.id,
            data={"checkpoint": checkpoint.ref, "artifacts": artifacts},
        )
        audit.record(
            kind="checkpoint.export", subject=checkpoint.ref, after={"mission": entry.id, "artifacts": artifacts}
        )


def _export_artifact(writer: archive.Writer, digest: str, size: int) -> bool:
    """Write an artifact, unless the store has lost it."""
    try:
        file = collection.open_stored(Artifact(digest=digest, path=digest))
    except errors.NotFound:
        return False
    with file:
        if file.size != size or size > archive.MAX_MEMBER_BYTES:
            return False
        writer.artifact(digest, size, file.chunks(collection.CHUNK_BYTES))
    return True


# Import


class _Spool:
    """The artifacts of a file, in a temporary file until everything has been checked."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.files: dict[str, tuple[int, int]] = {}  # digest: offset and size

    def add(self, digest: str, chunks: Iterator[bytes]) -> None:
        offset = self._file.tell()
        for chunk in chunks:
            if self._file.tell() - offset + len(chunk) > settings.FLEET_ARTIFACT_BYTES:
                raise Malformed(f"an artifact has more than {settings.FLEET_ARTIFACT_BYTES:,} bytes")
            with _disk():
                self._file.write(chunk)
        self.files[digest] = offset, self._file.tell() - offset

    def open(self, digest: str) -> File[bytes]:
        with _disk():
            self._file.flush()
        return File(io.BufferedReader(_Slice(self._file.fileno(), *self.files[digest])), name=digest)


class _Slice(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._end, self._start = descriptor, offset, offset + size, offset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        origin = (self._start, self._offset, self._end)[whence]
        self._offset = max(self._start, origin + offset)
        return self._offset - self._start

    def tell(self) -> int:
        return self._offset - self._start

    def readinto(self, buffer: Any, /) -> int:
        data = os.pread(self._descriptor, max(0, min(len(buffer), self._end - self._offset)), self._offset)
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)


@contextmanager
def _spool() -> Iterator[_Spool]:
    """A spool beside the checkpoints: the system's folder for temporary files may be in memory."""
    with _disk():
        settings.FLEET_CHECKPOINTS.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=settings.FLEET_CHECKPOINTS)  # noqa: SIM115  (closed below)
    with file:
        yield _Spool(file)


@contextmanager
def _disk() -> Iterator[None]:
    """Unavailable if the disk does not take the artifacts of the file."""
    try:
        yield
    except OSError as fault:
        raise errors.Unavailable(
            f"The artifacts of the file could not be stored: {fault.strerror or fault}.",
            hint="Free disk space, then import the file again.",
        ) from fault


@dataclass(slots=True, kw_only=True)
class _Content:
    """A file that was checked: the lines of its mission, and what is known of its sorties."""

    manifest: Manifest
    own: str  # the mission's state
    reason: str
    state: dict[str, str]
    sorties: dict[str, checking.Sortie]

    @classmethod
    def read(cls, file: Readable, spool: _Spool) -> _Content:
        """Read and check a file. Malformed, or Unacceptable's, with the reason."""
        reader = archive.Reader(
            file, max_bytes=settings.FLEET_IMPORT_FILE_BYTES, max_content=settings.FLEET_IMPORT_BYTES
        )
        manifest, entry = reader.entry()
        most = EXPANSION * (settings.FLEET_RESULT_BYTES + settings.FLEET_PLAN_BYTES)
        own, kept = _own_lines(reader.blob(entry.mission), entry.mission.digest, most)
        own_state, own_kept = checking.mission(own, kept, plan_bytes=settings.FLEET_PLAN_BYTES)
        _check_defaults(own_state)
        state: dict[str, str] = {}
        sorties: dict[str, checking.Sortie] = {}
        for number, part in sorted(entry.buckets.items()):
            bucket = _bucket(reader.blob(part), number, part.digest)
            if len(sorties) + len(bucket.state) > settings.FLEET_MAX_SORTIES:
                raise Malformed(f"the mission has more than {settings.FLEET_MAX_SORTIES:,} sorties")
            for key, line in bucket.state.items():
                if len(line) + len(bucket.kept[key]) > most:
                    raise Malformed(f"the sortie {key[:100]!r} has more than {most:,} characters")
                sorties[key] = checking.sortie(line, bucket.kept[key], result_bytes=settings.FLEET_RESULT_BYTES)
            state |= bucket.state
        limits = plan_context.without_database()
        checking.check_graph(
            sorties, state=own_state["state"], max_sorties=limits.max_sorties, max_needs=limits.max_needs
        )
        sizes = _artifact_sizes(sorties)
        reader.artifacts(sizes, spool.add)
        return cls(manifest=manifest, own=own, reason=own_kept.get("reason", ""), state=state, sorties=sorties)

    def require_rights(self, *, executes: bool) -> None:
        """As for a launch, by everything that could run again."""
        if not executes and any(sortie.spec.executes for sortie in self.sorties.values()):
            raise rights.refusal()

    def require_references(self) -> None:
        """Conflict if a sortie that has not ended needs something that this fleet does not have."""
        here = plan_context.current()
        types = here.types or {}
        drivers = {"prompt", *here.drivers}
        lacking: set[str] = set()
        for spec in (sortie.spec for sortie in self.sorties.values() if not sortie.ended):
            if spec.agent_type not in types:
                lacking.add(f"the agent type {spec.agent_type}")
            elif spec.prompt is not None and not types[spec.agent_type].takes_prompt:
                lacking.add(f"a prompt command of the agent type {spec.agent_type}")
            if spec.driver not in drivers:
                lacking.add(f"the driver {spec.driver}")
            if spec.call is not None and spec.call not in here.callables:
                lacking.add(f"the callable {spec.call}")
        if lacking:
            raise errors.Conflict(
                f"The mission needs what this fleet does not have: {', '.join(sorted(lacking)[:5])}.",
                hint="Create agent types in the admin, and name callables in FLEET_CALLABLES; then import it again.",
            )

    def drop_artifacts(self, available: set[str]) -> list[str]:
        """Leave out the artifacts that are not available; returns them."""
        dropped: list[str] = []
        for key, sortie in self.sorties.items():
            lost = {file.path for file in sortie.artifacts if file.digest not in available}
            if not lost:
                continue
            files = json.loads(self.state[key])["artifacts"]
            before, after = (
                json.dumps(rows, ensure_ascii=False)
                for rows in (files, [file for file in files if file["path"] not in lost])
            )
            if not self.state[key].endswith(ending := f'"artifacts":{before}}}'):
                raise _refusal(f"a line of the sortie {key!r} is not as a fleet writes it")
            self.state[key] = f'{self.state[key].removesuffix(ending)}"artifacts":{after}}}'
            dropped += (f"{key}: {path}" for path in sorted(lost))
        return dropped

    def own_lines(self) -> str:
        """The mission's two lines, the second one without anything that the file could misuse."""
        keys = {
            spec.concurrency.key: spec.concurrency.limit
            for spec in (sortie.spec for sortie in self.sorties.values())
            if spec.concurrency
        }
        return f"{self.own}\n{json.dumps({'concurrency_keys': keys, 'finished_at': None})}\n"

    def targets(self) -> list[Target]:
        return [
            Target(
                sortie=ids.new(), created=True, wait_until=None, state=line, kept=json.dumps(_kept(self.sorties[key]))
            )
            for key, line in self.state.items()
        ]

    def digest(self, own: str) -> str:
        """The digest that the new rows must have, with this line of the mission's state."""
        buckets: dict[int, Bucket] = {}
        for key, line in self.state.items():
            buckets.setdefault(bucket_of(key), Bucket()).state[key] = line
        return combined_digest(
            mission=hashlib.sha256(own.encode()).hexdigest(),
            buckets={number: bucket.digest() for number, bucket in buckets.items()},
        )


def _own_lines(text: str, digest: str, most: int) -> tuple[str, str]:
    lines = text.split("\n")
    if len(lines) != 3 or lines[2] or len(text) > most:
        raise Malformed("the mission's blob does not consist of two lines, or is too large")
    if hashlib.sha256(lines[0].encode()).hexdigest() != digest:
        raise Malformed("the digest of the mission's state does not fit")
    return lines[0], lines[1]


def _bucket(text: str, number: int, digest: str) -> Bucket:
    try:
        bucket = Bucket.parse(text)
    except Malformed:
        raise
    except (ValueError, RecursionError) as fault:
        raise Malformed(f"bucket {number:02x} has a line without a key") from fault
    if bucket.state.keys() != bucket.kept.keys() or bucket.text() != text:
        raise Malformed(f"bucket {number:02x} does not have two lines for each sortie")
    if bucket.digest() != digest:
        raise Malformed(f"the digest of bucket {number:02x} does not fit")
    if any(bucket_of(key) != number for key in bucket.state):
        raise Malformed(f"bucket {number:02x} has a sortie of another one")
    return bucket


def _check_defaults(own: Mapping[str, Any]) -> None:
    """The defaults apply to sorties that agents add, so they are read as those of a plan."""
    data = {
        "mission": "import",
        "inputs": {name: {} for name in own["inputs"]},
        "defaults": own["defaults"],
        "sorties": {"any": {"agent": "any", "run": "true"}},
    }
    try:
        plan.from_data(data=data, context=plan_context.without_database())
    except PlanError as fault:
        raise Malformed(f"the mission's defaults are not those of a plan: {fault.faults[0]}") from fault


def _artifact_sizes(sorties: Mapping[str, checking.Sortie]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for sortie in sorties.values():
        for file in sortie.artifacts:
            if sizes.setdefault(file.digest, file.size) != file.size:
                raise Malformed(f"the artifact {file.digest[:12]}… has two sizes")
    return sizes


def _kept(sortie: checking.Sortie) -> dict[str, Any]:
    """What `put_back` needs beside a sortie's state, of which only the outcome comes from the file."""
    kept, attempted = sortie.kept, sortie.kept["attempted"]
    started, finished, outcome_at = (
        checking.parsed_time(kept[name]) for name in ("started_at", "finished_at", "outcome_at")
    )
    run_at = None if sortie.ended else sortie.spec.run_at
    return {
        "sortie": str(NOBODY),
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
    }


def _readable_digests(content: _Content, spool: _Spool, by: User | None) -> set[str]:
    """Artifacts that the importer may have: those in the file, and stored ones of missions that it may see."""
    digests = {file.digest for sortie in content.sorties.values() for file in sortie.artifacts}
    if by is None or by.is_superuser:
        known = {digest for digest in digests if collection.has(digest)}
    else:
        visible = Mission.objects.filter(Q(created_by=by) | Q(team__in=by.groups.all()))
        rows = Artifact.objects.filter(digest__in=digests, sortie__mission__in=visible)
        known = {digest for digest in rows.values_list("digest", flat=True) if collection.has(digest)}
    return known | spool.files.keys()


@contextmanager
def _stored_artifacts(spool: _Spool) -> Iterator[None]:
    """Store the artifacts of the file; if the block fails, remove those that nothing refers to."""
    added: list[str] = []
    try:
        for digest in spool.files:
            if not collection.has(digest):
                added.append(digest)
                with spool.open(digest) as file, _disk():
                    collection.add(digest, file)
        yield
    except BaseException:
        used = set(Artifact.objects.filter(digest__in=added).values_list("digest", flat=True))
        for digest in set(added) - used:
            collection.forget(digest)
        raise


def _create(
    content: _Content, *, by: User | None, executes: bool, folder: str, team: Group | None, missing: int
) -> tuple[Mission, Checkpoint]:
    """Create the rows, prove them, and capture them, all in one transaction."""
    id = ids.new()
    changes = {"folder": folder, "readable": []}
    checkpoint = None
    try:
        with _refused(), transaction.atomic(durable=True), connection.cursor() as cursor:
            cursor.execute(
                "SELECT %(own)s::jsonb::text = %(own)s, (%(own)s::jsonb || %(changes)s::jsonb)::text",
                {"own": content.own, "changes": json.dumps(changes)},
            )
            canonical, own = cursor.fetchone()
            if not canonical:
                raise Malformed("the line of the mission is not as a fleet writes it")
            writing.create_mission(
                mission=id,
                own=content.own_lines(),
                checkpoint=content.manifest.id,
                live=MissionState.PLANNED,
                executes=executes,
                origin=f"import of {content.manifest.missions[0].id} at {content.manifest.id}",
                reason=content.reason if json.loads(content.own)["state"] != "live" else "",
                owner=by.id if by else None,
                team=team.id if team else None,
                changes=changes,
            )
            turn, _ = launching.fair_turn(cursor)
            writing.put_back(mission=id, targets=content.targets(), origin=turn, checkpoint=content.manifest.id)
            text = reading.mission(id)
            if text.entry({}).digest != content.digest(own):
                raise Malformed("its lines are not as a fleet writes them, so the new rows would differ from them")
            checkpoint = capturing.store(
                texts=[text],
                snapshot=reading.current_snapshot(),
                trigger=Checkpoint.Trigger.IMPORT,
                note=f"As imported from a file of {content.manifest.id}.",
                by=by,
            )
            _record_import(checkpoint, id, content, missing)
    except BaseException:
        if checkpoint is not None:
            storage.remove_manifest(checkpoint.ref)
        raise
    return Mission.objects.get(id=id), checkpoint


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
def _refused() -> Iterator[None]:
    """Refused for whatever is wrong with the file, also if only Postgres notices it."""
    try:
        yield
    except Malformed as fault:
        raise _refusal(str(fault)) from fault
    except DatabaseError as fault:
        state = getattr(fault.__cause__, "sqlstate", None) or ""
        if not state.startswith(BAD_DATA):
            raise
        raise _refusal("Postgres does not accept its data") from fault


def _refusal(reason: str) -> Refused:
    return Refused(f"The file cannot be imported: {reason}.", hint="Nothing was imported. Export the mission again.")
