"""Exported missions to tamper with, and what an import of them must leave untouched."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile

from checkpoints import operations
from checkpoints.models import Checkpoint
from checkpoints.operations import ImportResult
from checkpoints.operations.transfer.importing import Refused
from missions.artifacts import collection
from missions.engine.process.runtime import Engine
from missions.models import Artifact, Attempt, ConcurrencyKey, Mission, Sortie
from tests.support import archives, fleet

PLAN = {
    "top": {"with": {"result": {"n": 1.5, "text": "ü"}}},
    "left": {"needs": ["top"], "concurrency": {"key": "db", "limit": 2}},
    "right": {"needs": ["top"], "with": {"fail": "no"}, "allow_failure": True},
    "bottom": {"needs": ["left", "right"]},
}


def live() -> bytes:
    return archives.exported(operations.capture(missions=[fleet.launch(PLAN).id]))


def ended(engine: Engine, *, artifacts: bool = False) -> bytes:
    mission = fleet.launch(PLAN)
    fleet.run_to_end(engine, mission)
    with_artifact(mission, "top", b"report")
    return archives.exported(operations.capture(missions=[mission.id]), artifacts=artifacts)


def with_artifact(mission: Mission, key: str, content: bytes) -> Artifact:
    name = hashlib.sha256(content).hexdigest()
    collection.add(name, ContentFile(content))
    sortie = Sortie.objects.get(mission=mission, key=key)
    return Artifact.objects.create(
        sortie=sortie, attempt=1, path="report.txt", digest=name, size=len(content), media_type="text/plain"
    )


def imported(data: bytes, *, by: User | None = None, can_execute: bool = True, **options: Any) -> ImportResult:
    return operations.import_file(file=io.BytesIO(data), by=by, can_execute=can_execute, **options)


def traces() -> tuple[object, ...]:
    """Everything that an import writes."""
    folders = sorted(path.name for path in settings.FLEET_CHECKPOINTS.iterdir())
    stored = sorted(path.name for path in settings.FLEET_HOME.artifacts.glob("??/*"))
    rows = (Mission, Sortie, Attempt, Checkpoint, Artifact, ConcurrencyKey)
    return (folders, stored, *(model.objects.count() for model in rows))


def refuse(data: bytes, reason: str = "", **options: Any) -> None:
    before = traces()
    with pytest.raises(Refused, match=reason or None):
        imported(data, **options)
    assert traces() == before


def members(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(info, file.read() if (file := tar.extractfile(info)) else b"") for info in tar]


def packed(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    return b"".join(
        info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512) for info, content in entries
    ) + bytes(1024)


def named(name: str, content: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


def setting(**values: Any) -> archives.Change:
    return lambda data: data.update(values)


def setting_spec(**values: Any) -> archives.Change:
    return lambda data: data["spec"].update(values)
