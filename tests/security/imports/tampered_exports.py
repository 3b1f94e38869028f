"""Exported missions to tamper with, and a check that an import of a tampered one leaves nothing."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from django.conf import settings

from checkpoints import operations
from checkpoints.models import Checkpoint
from checkpoints.operations.transfer.content import ImportRefused
from missions.engine.process.runtime import Engine
from missions.models import Artifact, Attempt, ConcurrencyKey, Mission, Sortie
from tests.support import artifacts, fleet
from tests.support.work import archives
from tests.support.work.archives import import_bytes

PLAN = {
    "top": {"with": {"result": {"n": 1.5, "text": "ü"}}},
    "left": {"needs": ["top"], "concurrency": {"key": "db", "limit": 2}},
    "right": {"needs": ["top"], "with": {"fail": "no"}, "allow_failure": True},
    "bottom": {"needs": ["left", "right"]},
}


def export_live_mission() -> bytes:
    return archives.export(operations.capture(missions=[fleet.launch(PLAN).id]))


def export_ended_mission(engine: Engine, *, with_artifacts: bool = False) -> bytes:
    mission = fleet.launch(PLAN)
    fleet.run_to_end(engine, mission)
    artifacts.add(mission.sorties.get(key="top"), content=b"report")
    return archives.export(operations.capture(missions=[mission.id]), artifacts=with_artifacts)


def stored_state() -> tuple[object, ...]:
    """All that an import could have written."""
    folders = sorted(path.name for path in settings.FLEET_CHECKPOINTS.iterdir())
    stored = sorted(path.name for path in settings.FLEET_HOME.artifacts.glob("??/*"))
    rows = (Mission, Sortie, Attempt, Checkpoint, Artifact, ConcurrencyKey)
    return (folders, stored, *(model.objects.count() for model in rows))


def assert_refused(data: bytes, reason: str = "", **options: Any) -> None:
    before = stored_state()
    with pytest.raises(ImportRefused, match=reason or None):
        import_bytes(data, **options)
    assert stored_state() == before


def members(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(info, file.read() if (file := tar.extractfile(info)) else b"") for info in tar]


def pack(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    return b"".join(
        info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512) for info, content in entries
    ) + bytes(1024)


def tar_member(name: str, content: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


def set_values(**values: Any) -> archives.Change:
    return lambda data: data.update(values)


def set_spec_values(**values: Any) -> archives.Change:
    return lambda data: data["spec"].update(values)
