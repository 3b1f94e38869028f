"""A malformed export is refused with a reason, before any of it is stored."""

from __future__ import annotations

import tarfile
from typing import Any

import pytest
import zstandard

from missions.artifacts import collection
from missions.engine.process.runtime import Engine
from missions.models import Artifact
from tests.security.imports.tampered_exports import (
    assert_refused,
    export_ended_mission,
    export_live_mission,
    members,
    pack,
    tar_member,
)
from tests.support.work.archives import OpenedExport

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_repacking_the_members_gives_the_same_file() -> None:
    data = export_live_mission()
    assert pack(members(data)) == data


@pytest.mark.parametrize(
    "member",
    [
        tar_member("manifest.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        tar_member("manifest.json", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        tar_member("manifest.json", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        tar_member("manifest.json", type=tarfile.FIFOTYPE),
        tar_member("manifest.json", type=tarfile.DIRTYPE),
        tar_member("manifest.json", type=tarfile.XHDTYPE),
        tar_member("manifest.json", type=tarfile.GNUTYPE_SPARSE),
        tar_member("./manifest.json"),
        tar_member("../manifest.json"),
        tar_member("/manifest.json"),
        tar_member("manifest.json/"),
        tar_member("blobs/manifest.json"),
    ],
    ids=lambda member: f"{member[0].name} {member[0].type!r}",
)
def test_only_plain_files_with_the_expected_names_are_read(member: tuple[tarfile.TarInfo, bytes]) -> None:
    data = export_live_mission()
    assert_refused(pack([member, *members(data)]))
    info, _ = member
    assert_refused(pack([(info, members(data)[0][1]), *members(data)[1:]]))


@pytest.mark.parametrize(("attribute", "value"), [("mode", 0o4755), ("uid", 1), ("mtime", 1), ("uname", "root")])
def test_members_have_no_attributes(attribute: str, value: object) -> None:
    entries = members(export_live_mission())
    setattr(entries[1][0], attribute, value)
    assert_refused(pack(entries), "header")


def test_members_are_complete_unique_and_in_order() -> None:
    data = export_live_mission()
    manifest, *blobs = members(data)
    assert len(blobs) > 2
    assert_refused(pack(blobs))
    assert_refused(pack([manifest, *reversed(blobs)]), "missing or out of order")
    assert_refused(pack([manifest, *blobs[:-1]]), "missing or out of order")
    assert_refused(pack([manifest, blobs[0], *blobs]), "missing or out of order")
    assert_refused(pack([manifest, *blobs, blobs[-1]]), "unexpected member")
    assert_refused(pack([manifest, *blobs, tar_member("notes.txt", b"hello")]), "unexpected member")
    assert_refused(pack([manifest, *blobs, tar_member("artifacts/" + "0" * 64, b"")]), "unexpected member")
    assert_refused(pack([manifest, *blobs, tar_member("artifacts/../../etc/passwd", b"")]), "unexpected member")


def test_data_after_the_end_is_refused() -> None:
    data = export_live_mission()
    assert_refused(data + b"\0", "after its end")
    assert_refused(data + bytes(10_240), "after its end")
    assert_refused(data + data, "after its end")
    assert_refused(data[:-512], "incomplete")
    assert_refused(data[:-1], "incomplete")
    assert_refused(b"", "incomplete")
    assert_refused(data[:-513] + b"x" + data[-512:])


def test_bytes_between_members_are_refused() -> None:
    data = bytearray(export_live_mission())
    size = int(data[124:135], 8)
    assert size % 512
    data[512 + size] = 1
    assert_refused(bytes(data), "between its members")


def test_artifacts_are_checked_against_their_digests(engine: Engine) -> None:
    data = export_ended_mission(engine, with_artifacts=True)
    *others, (info, content) = members(data)
    assert info.name.startswith("artifacts/")
    Artifact.objects.all().delete()
    collection.delete(info.name.partition("/")[2])
    assert_refused(pack([*others, (info, content[::-1])]), "SHA-256")
    assert_refused(pack([*others, tar_member(info.name, content + b"!")]), "size")
    assert_refused(pack([*others, (info, content), (info, content)]), "unexpected member")


def test_a_file_larger_than_allowed_is_refused(settings: Any) -> None:
    data = export_live_mission()
    settings.FLEET_IMPORT_FILE_BYTES = len(data) - 1
    assert_refused(data, "larger than")


def test_content_larger_than_allowed_is_refused_before_it_is_read(settings: Any) -> None:
    export = OpenedExport.of(export_live_mission())
    settings.FLEET_IMPORT_BYTES = 1_000_000
    export.mission_lines.append(" " * 2_000_000)
    data = export.reseal()
    assert len(data) < 20_000
    assert_refused(data, "content has")


def test_a_decompression_bomb_is_not_decompressed() -> None:
    """The bomb is a blob whose content is larger than it says, or whose declared size is huge."""
    manifest, own, *rest = members(export_live_mission())
    size = len(zstandard.decompress(own[1]))
    for bomb in (
        zstandard.compress(bytes(100_000_000)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100_000_000)),
        zstandard.compress(bytes(size)) + zstandard.compress(bytes(100_000_000)),
        zstandard.compress(zstandard.decompress(own[1])) + b"garbage",
        b"",
        own[1][:-1],
    ):
        assert_refused(pack([manifest, tar_member(own[0].name, bomb), *rest]))


def test_a_member_with_a_huge_declared_size_is_not_read() -> None:
    manifest, own, *_ = members(export_live_mission())
    for size in (8**11 - 1, 5_000_000):
        info, _ = tar_member(own[0].name, size=size)
        assert_refused(pack([manifest])[:-1024] + info.tobuf(tarfile.USTAR_FORMAT) + own[1] + bytes(1024), "allowed")
    info, _ = tar_member("manifest.json", size=1_000_001)
    assert_refused(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1_001_000), "allowed")


def test_base_256_and_negative_sizes_are_refused() -> None:
    data = bytearray(export_live_mission())
    for size in (b"\x80" + bytes(10) + b"\x10", b"\xff" * 12, b"-0000000001\0", b"           \0", b"0o000000010\0"):
        data[124:136] = size
        assert_refused(bytes(data), "header")


def test_more_sorties_than_a_mission_may_have_are_refused(settings: Any) -> None:
    data = export_live_mission()
    settings.FLEET_MAX_SORTIES = 3
    assert_refused(data, "more than 3 sorties")


def test_results_larger_than_allowed_are_refused(engine: Engine, settings: Any) -> None:
    data = export_ended_mission(engine)
    settings.FLEET_RESULT_BYTES = 5
    assert_refused(data, "result that cannot be stored")


def test_artifacts_larger_than_allowed_are_refused(engine: Engine, settings: Any) -> None:
    data = export_ended_mission(engine, with_artifacts=True)
    settings.FLEET_ARTIFACT_BYTES = 5
    assert_refused(data, "more than 5 bytes")
