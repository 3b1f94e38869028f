"""A file whose container lies about itself is refused with a reason, before anything of it is stored."""

from __future__ import annotations

import tarfile
from typing import Any

import pytest
import zstandard

from missions.artifacts import collection
from missions.engine.process.runtime import Engine
from missions.models import Artifact
from tests.security.lying_files import ended, live, members, named, packed, refuse
from tests.support.archives import Opened

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_the_packed_members_are_the_file_itself() -> None:
    data = live()
    assert packed(members(data)) == data


@pytest.mark.parametrize(
    "member",
    [
        named("manifest.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        named("manifest.json", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        named("manifest.json", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        named("manifest.json", type=tarfile.FIFOTYPE),
        named("manifest.json", type=tarfile.DIRTYPE),
        named("manifest.json", type=tarfile.XHDTYPE),
        named("manifest.json", type=tarfile.GNUTYPE_SPARSE),
        named("./manifest.json"),
        named("../manifest.json"),
        named("/manifest.json"),
        named("manifest.json/"),
        named("blobs/manifest.json"),
    ],
    ids=lambda member: f"{member[0].name} {member[0].type!r}",
)
def test_only_plain_files_with_the_expected_names_are_read(member: tuple[tarfile.TarInfo, bytes]) -> None:
    data = live()
    refuse(packed([member, *members(data)]))
    info, _ = member
    refuse(packed([(info, members(data)[0][1]), *members(data)[1:]]))


@pytest.mark.parametrize(("attribute", "value"), [("mode", 0o4755), ("uid", 1), ("mtime", 1), ("uname", "root")])
def test_members_have_no_attributes(attribute: str, value: object) -> None:
    entries = members(live())
    setattr(entries[1][0], attribute, value)
    refuse(packed(entries), "header")


def test_members_are_complete_unique_and_in_order() -> None:
    data = live()
    manifest, *blobs = members(data)
    assert len(blobs) > 2
    refuse(packed(blobs))
    refuse(packed([manifest, *reversed(blobs)]), "missing or out of order")
    refuse(packed([manifest, *blobs[:-1]]), "missing or out of order")
    refuse(packed([manifest, blobs[0], *blobs]), "missing or out of order")
    refuse(packed([manifest, *blobs, blobs[-1]]), "unexpected member")
    refuse(packed([manifest, *blobs, named("notes.txt", b"hello")]), "unexpected member")
    refuse(packed([manifest, *blobs, named("artifacts/" + "0" * 64, b"")]), "unexpected member")
    refuse(packed([manifest, *blobs, named("artifacts/../../etc/passwd", b"")]), "unexpected member")


def test_data_after_the_end_is_refused() -> None:
    data = live()
    refuse(data + b"\0", "after its end")
    refuse(data + bytes(10_240), "after its end")
    refuse(data + data, "after its end")
    refuse(data[:-512], "incomplete")
    refuse(data[:-1], "incomplete")
    refuse(b"", "incomplete")
    refuse(data[:-513] + b"x" + data[-512:])


def test_bytes_between_members_are_refused() -> None:
    data = bytearray(live())
    size = int(data[124:135], 8)
    assert size % 512
    data[512 + size] = 1
    refuse(bytes(data), "between its members")


def test_artifacts_are_checked_against_their_digests(engine: Engine) -> None:
    data = ended(engine, artifacts=True)
    *others, (info, content) = members(data)
    assert info.name.startswith("artifacts/")
    Artifact.objects.all().delete()
    collection.delete(info.name.partition("/")[2])
    refuse(packed([*others, (info, content[::-1])]), "SHA-256")
    refuse(packed([*others, named(info.name, content + b"!")]), "size")
    refuse(packed([*others, (info, content), (info, content)]), "unexpected member")


def test_a_file_larger_than_allowed_is_refused(settings: Any) -> None:
    data = live()
    settings.FLEET_IMPORT_FILE_BYTES = len(data) - 1
    refuse(data, "larger than")


def test_content_larger_than_allowed_is_refused_before_it_is_read(settings: Any) -> None:
    opened = Opened.of(live())
    settings.FLEET_IMPORT_BYTES = 1_000_000
    opened.own.append(" " * 2_000_000)
    data = opened.sealed()
    assert len(data) < 20_000
    refuse(data, "content has")


def test_a_bomb_is_not_decompressed() -> None:
    """A blob that claims its size and contains another, or claims a huge one."""
    manifest, own, *rest = members(live())
    size = len(zstandard.decompress(own[1]))
    for bomb in (
        zstandard.compress(bytes(100_000_000)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100_000_000)),
        zstandard.compress(bytes(size)) + zstandard.compress(bytes(100_000_000)),
        zstandard.compress(zstandard.decompress(own[1])) + b"garbage",
        b"",
        own[1][:-1],
    ):
        refuse(packed([manifest, named(own[0].name, bomb), *rest]))


def test_a_member_that_claims_a_huge_size_is_not_read() -> None:
    manifest, own, *_ = members(live())
    for size in (8**11 - 1, 5_000_000):
        info, _ = named(own[0].name, size=size)
        refuse(packed([manifest])[:-1024] + info.tobuf(tarfile.USTAR_FORMAT) + own[1] + bytes(1024), "allowed")
    info, _ = named("manifest.json", size=1_000_001)
    refuse(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1_001_000), "allowed")


def test_base_256_and_negative_sizes_are_refused() -> None:
    data = bytearray(live())
    for size in (b"\x80" + bytes(10) + b"\x10", b"\xff" * 12, b"-0000000001\0", b"           \0", b"0o000000010\0"):
        data[124:136] = size
        refuse(bytes(data), "header")


def test_more_sorties_than_a_mission_may_have_are_refused(settings: Any) -> None:
    data = live()
    settings.FLEET_MAX_SORTIES = 3
    refuse(data, "more than 3 sorties")


def test_results_larger_than_allowed_are_refused(engine: Engine, settings: Any) -> None:
    data = ended(engine)
    settings.FLEET_RESULT_BYTES = 5
    refuse(data, "result that cannot be stored")


def test_artifacts_larger_than_allowed_are_refused(engine: Engine, settings: Any) -> None:
    data = ended(engine, artifacts=True)
    settings.FLEET_ARTIFACT_BYTES = 5
    refuse(data, "more than 5 bytes")
