"""A file that lies about itself is refused with a reason, before anything of it is stored."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import zstandard
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.files.base import ContentFile
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents.models import AgentType
from checkpoints import operations, storage
from checkpoints.document.buckets import combined_digest
from checkpoints.models import Checkpoint
from checkpoints.operations import Imported
from checkpoints.operations.importing import Refused
from fleet import errors
from missions.artifacts import collection
from missions.engine.runtime import Engine
from missions.models import Artifact, Attempt, ConcurrencyKey, Mission, Sortie
from tests.support import archives, fleet
from tests.support.archives import Opened, sha256

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

PLAN = {
    "top": {"with": {"result": {"n": 1.5, "text": "ü"}}},
    "left": {"needs": ["top"], "concurrency": {"key": "db", "limit": 2}},
    "right": {"needs": ["top"], "with": {"fail": "no"}, "allow_failure": True},
    "bottom": {"needs": ["left", "right"]},
}


@pytest.fixture
def engine() -> Iterator[Engine]:
    started = fleet.engine()
    yield started
    started.stop(within_s=5)


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


def imported(data: bytes, *, by: User | None = None, executes: bool = True, **options: Any) -> Imported:
    return operations.import_file(file=io.BytesIO(data), by=by, executes=executes, **options)


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


# The container


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


def test_nothing_follows_the_end() -> None:
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
    collection.forget(info.name.partition("/")[2])
    refuse(packed([*others, (info, content[::-1])]), "SHA-256")
    refuse(packed([*others, named(info.name, content + b"!")]), "size")
    refuse(packed([*others, (info, content), (info, content)]), "unexpected member")


# Sizes


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


# The manifest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda manifest: manifest | {"format": 2}, "newer"),
        (lambda manifest: manifest | {"format": 1.0}, "canonical"),
        (lambda manifest: manifest | {"more": 1}, "schema"),
        (lambda manifest: manifest | {"name": "\ud800"}, ""),
        (lambda manifest: manifest | {"missions": []}, "one mission"),
        (lambda manifest: manifest | {"missions": manifest["missions"] * 2}, "one mission"),
        (lambda manifest: manifest | {"fleet": manifest["missions"][0]["mission"]}, "one mission"),
        (lambda manifest: manifest | {"missions": [manifest["missions"][0] | {"digest": "0" * 64}]}, "digest"),
        (lambda manifest: manifest | {"missions": [floats(manifest["missions"][0])]}, "not an integer"),
        (lambda manifest: manifest | {"missions": [twice(manifest["missions"][0])]}, "twice"),
    ],
)
def test_a_manifest_that_lies_is_refused(change: Callable[[dict[str, Any]], dict[str, Any]], reason: str) -> None:
    (_, data), *blobs = members(live())
    document = json.loads(data)
    del document["sha256"]
    document = change(document)
    canonical = lambda: json.dumps(document, sort_keys=True, separators=(",", ":"))  # noqa: E731
    document["sha256"] = sha256(canonical())
    refuse(packed([named("manifest.json", canonical().encode()), *blobs]), reason)


def floats(entry: dict[str, Any]) -> dict[str, Any]:
    blob, size, digest = entry["mission"]
    return entry | {"mission": [blob, float(size), digest]}


def twice(entry: dict[str, Any]) -> dict[str, Any]:
    """A blob that is named twice. The digest of the mission fits."""
    part = entry["mission"]
    buckets = {"00": part, "01": part}
    digest = combined_digest(mission=part[2], buckets={0: part[2], 1: part[2]})
    return entry | {"buckets": buckets, "digest": digest}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"a":' * 50_000, '{"sha256": 9' + "9" * 5_000 + "}"]
)
def test_a_manifest_that_is_none_is_refused(text: str) -> None:
    refuse(packed([named("manifest.json", text.encode())]))


# The lines of sorties


def _set(**values: Any) -> archives.Change:
    return lambda data: data.update(values)


def _spec(**values: Any) -> archives.Change:
    return lambda data: data["spec"].update(values)


STATES = [
    (_set(key="other"), "does not have two lines"),
    (_set(type="frontend"), "differ in type"),
    (_set(type="x" * 65), "schema"),
    (_set(more=1), "schema"),
    (_set(priority=1_001), "schema"),
    (_set(priority=1.0), "Postgres"),
    (_set(order=-1), "schema"),
    (_set(order=5), "order"),
    (_set(order=900_000_000), "order"),
    (_set(always=True), "differ in always"),
    (_set(max_tries=9), "differ in max_tries"),
    (_set(tries=40_000), "schema"),
    (_set(concurrency_key="other"), "differ in concurrency_key"),
    (_set(added_by="nobody"), "does not exist"),
    (_set(added_by="top"), "added each other"),
    (_set(needs=[["nobody", "nobody"]]), "does not exist"),
    (_set(needs=[["bottom", "bottom"]]), "needs of its spec"),
    (_set(state="running"), "schema"),
    (_set(state="succeeded"), "without an attempt"),
    (_set(reason="because"), "neither skipped"),
    (_set(reason="x" * 501), "schema"),
    (_set(result=1), "before it has ended"),
    (_set(error="no"), "before it has ended"),
    (_set(result="\ud800"), "surrogate"),
    (_set(result="\0"), "NUL"),
    (_set(result=2**70), "2⁶³"),
    (_set(artifacts=[{"path": "a", "digest": "0" * 64, "size": 1, "media_type": "a/b"}]), "before it has ended"),
    (_spec(key="other"), "differ in key"),
    (_spec(name="other"), "another name"),
    (_spec(unknown=1), "schema"),
    (_spec(driver="command"), "work for another driver"),
    (_spec(run="true"), "work for another driver"),
    (_spec(driver="command", run=5), "schema"),
    (_spec(driver="command", run=[]), "schema"),
    (_spec(driver="python", call="os"), "schema"),
    (_spec(env={"FLEET_TOKEN": "x"}), "schema"),
    (_spec(env={"A": 5}), "schema"),
    (_spec(env={"A=B": "x"}), "schema"),
    (_spec(secret_env=["NONE"]), "does not have"),
    (_spec(many=["nobody"]), "does not have"),
    (_spec(groups={"x": ["left", "right"]}), "several sorties"),
    (_spec(groups={"left": ["left"]}), "needs of its spec"),
    (_spec(outputs=["../../etc/passwd"]), "outside its folder"),
    (_spec(outputs=["/etc/passwd"]), "schema"),
    (_spec(outputs=["~/.ssh/id_rsa"]), "schema"),
    (_spec(run_at="2030-01-01T00:00:00"), "does not load"),
    (_spec(run_at="soon"), "does not load"),
    (_spec(run_at="0001-01-01T00:00:00+14:00"), "does not load"),
    (_spec(retry={"max_attempts": 1}), "schema"),
    (_spec(retry={"max_attempts": 1.0, "backoff_s": 2, "factor": 2, "max_s": 9, "jitter": True}), "float instead of an integer"),
    (_spec(timeout_s=0), "schema"),
    (_spec(timeout_s=1e300), "schema"),
    (_spec(concurrency={"key": "db", "limit": 0}), "schema"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), STATES)
def test_a_sortie_that_lies_is_refused(change: archives.Change, reason: str) -> None:
    opened = Opened.of(live())
    opened.change("top", change)
    refuse(opened.sealed(), reason)


ENDED = [
    (_set(state="due", result=None), "results before it has ended"),
    (_set(state="skipped"), "does not fit"),
    (_set(state="failed"), "does not fit"),
    (_set(artifacts=[{"path": "../x", "digest": "0" * 64, "size": 1, "media_type": "a/b"}]), "outside its folder"),
    (_set(artifacts=[{"path": "/x", "digest": "0" * 64, "size": 1, "media_type": "a/b"}]), "schema"),
    (_set(artifacts=[{"path": "x", "digest": "0" * 64, "size": 2**63, "media_type": "a/b"}]), "schema"),
    (_set(artifacts=[{"path": "x", "digest": "0", "size": 1, "media_type": "a/b"}]), "schema"),
    (_set(artifacts=[{"path": "x", "digest": "0" * 64, "size": 1, "media_type": "a/b\r\nX: y"}]), "schema"),
    (_set(artifacts=[{"path": "x", "digest": "0" * 64, "size": 1, "media_type": "a/b"}] * 2), "same path"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), ENDED)
def test_an_ended_sortie_that_lies_is_refused(engine: Engine, change: archives.Change, reason: str) -> None:
    opened = Opened.of(ended(engine))
    opened.change("top", change)
    refuse(opened.sealed(), reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set(accepted=0), "without an attempt"),
        (_set(outcome="failed"), "attempt that did not"),
        (_set(outcome=None), "outcome without a state"),
        (_set(accepted=-1), "schema"),
        (_set(key="left"), "two lines|two keys|sorted"),
        (_set(note="x" * 201), "schema"),
        (_set(cpu_s=-1), "schema"),
        (_set(exit_code=2**40), "schema"),
    ],
)
def test_an_outcome_that_lies_is_refused(engine: Engine, change: archives.Change, reason: str) -> None:
    opened = Opened.of(ended(engine))
    opened.change_kept("top", change)
    refuse(opened.sealed(), reason)


def test_cycles_are_refused() -> None:
    opened = Opened.of(live())
    opened.change(
        "top",
        lambda data: (
            data["spec"].update(groups={"bottom": ["bottom"]}),
            data.update(state="pending", needs=[["bottom", "bottom"]]),
        ),
    )
    refuse(opened.sealed(), "cycle")
    opened = Opened.of(live())
    opened.change("top", _set(added_by="left"))
    opened.change("left", _set(added_by="top"))
    refuse(opened.sealed(), "added each other")


def test_a_sortie_is_in_its_own_bucket() -> None:
    opened = Opened.of(live())
    line = opened.state.pop("top")
    kept = opened.kept.pop("top")
    opened.state["left"], opened.kept["left"] = line, kept
    refuse(opened.sealed(), "another one|two keys|needs")


def test_other_spellings_of_the_same_values_are_refused() -> None:
    """They would be stored as the same rows, which then have another digest than the file."""
    for change in (
        lambda line: line.replace('"order":', '"order": '),
        lambda line: line.replace('"priority":0', '"priority":0,"priority":0'),
        lambda line: line.replace('"top"', '"\\u0074op"'),
    ):
        opened = Opened.of(live())
        opened.state["top"] = change(opened.state["top"])
        refuse(opened.sealed(), "form that a fleet writes|needs")
    opened = Opened.of(live())
    opened.own[0] = opened.own[0].replace(": ", ":")
    refuse(opened.sealed(), "form that a fleet writes")


@pytest.mark.parametrize(
    "line", ["", "[]", "{}", '{"key":', '{"key":' + "[" * 100_000, '{"key":"\\ud800"}', "{" * 50, '{"key":"top"}', "\0"]
)
def test_a_line_that_is_none_is_refused(line: str) -> None:
    """Only the digests fit."""
    data = Opened.of(live())
    text = f"{line}\n\n{line}\n"
    part = archives.part(text, sha256(line))
    (entry,) = data.manifest.missions
    number = next(iter(entry.buckets))
    entry = replace(entry, buckets={number: part})
    out = io.BytesIO()
    writer = archives.archive.Writer(out)
    writer.manifest(replace(data.manifest, missions=(entry,)))
    writer.blob(entry.mission, "".join(f"{own}\n" for own in data.own).encode())
    writer.blob(part, text.encode())
    writer.close()
    refuse(out.getvalue())


# The lines of the mission


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set(state="running"), "schema"),
        (_set(state="succeeded"), "all of its sorties"),
        (_set(name="x" * 201), "schema"),
        (_set(name=""), "schema"),
        (_set(priority=10**6), "schema"),
        (_set(at_once=-1), "schema"),
        (_set(inputs={"a b": 1}), "schema"),
        (_set(inputs={"a": 2**70}), "2⁶³"),
        (_set(defaults={"env": {"FLEET_TOKEN": "x"}}), "defaults"),
        (_set(defaults={"cwd": 5}), "defaults"),
        (_set(defaults={"unknown": 5}), "defaults"),
        (_set(plan=5), "schema"),
        (_set(checkpoints={"every_s": 0}), "schema"),
        (_set(checkpoints={"on": ["anything"]}), "schema"),
        (_set(owner="root"), "schema"),
    ],
)
def test_a_mission_that_lies_is_refused(change: archives.Change, reason: str) -> None:
    opened = Opened.of(live())
    opened.change_mission(change)
    refuse(opened.sealed(), reason)


@pytest.mark.parametrize("state", ["failed", "cancelled", "succeeded"])
def test_the_state_of_an_ended_mission_fits_its_sorties(engine: Engine, state: str) -> None:
    opened = Opened.of(ended(engine))
    opened.change_mission(_set(state=state))
    if state == "failed":
        refuse(opened.sealed(), "does not fit")
    else:
        assert imported(opened.sealed()).mission.state == state


def test_owner_template_and_paths_in_the_file_are_ignored(engine: Engine) -> None:
    opened = Opened.of(ended(engine))
    victim = Mission.objects.get()
    User.objects.create_superuser("root")
    ConcurrencyKey.objects.create(key="theirs", limit=5)
    opened.change_mission(_set(folder="/root", readable=["/etc/shadow"]))
    opened.change_mission(
        _set(
            mission=str(victim.id), owner="root", team="admins", template="trusted", executes=True,
            concurrency_keys={"theirs": 0, "new": 0, "db": 999}, finished_at="infinity",
        ),
        line=1,
    )  # fmt: skip
    hostile = {
        "sortie": str(victim.sorties.get(key="top").id), "agent": str(victim.id), "attempt": 2_000_000_000,
        "accepted": 2_000_000_000, "wake_at": "infinity", "ready_at": "infinity", "started_at": "infinity",
        "finished_at": "9999-12-31T23:59:59+00:00", "outcome_at": "-infinity", "resume": {"session": "theirs"},
        "waits_for": None, "lease_until": "infinity",
    }  # fmt: skip
    for key in opened.state:
        opened.change_kept(key, _set(**hostile))
    ann = User.objects.create_user("ann")
    mission = imported(opened.sealed(), by=ann).mission
    assert (mission.created_by, mission.team, mission.template, mission.folder, mission.readable) == (
        ann,
        None,
        "",
        "",
        [],
    )
    assert mission.finished_at is not None
    assert mission.finished_at.year < 9999
    assert dict(ConcurrencyKey.objects.values_list("key", "limit")) == {"theirs": 5, "db": 2}
    for sortie in mission.sorties.all():
        assert (sortie.attempt, sortie.agent_id, sortie.lease_until, sortie.wake_at) == (1, None, None, None)
        assert sortie.finished_at is not None
        assert sortie.finished_at.year < 9999
        assert not sortie.attempts.exclude(resume=None).exists()


# Rights


def test_code_needs_plan_execute() -> None:
    mission = fleet.launch({"one": {"run": "true"}})
    data = archives.exported(operations.capture(missions=[mission.id]))
    before = traces()
    with pytest.raises(errors.Forbidden):
        imported(data, by=User.objects.create_user("ann"), executes=False)
    assert traces() == before


def test_prompts_need_no_right_and_give_none() -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=["cat"])
    mission = fleet.launch({"one": {"prompt": "Hello", "outputs": ["a.txt"]}})
    data = archives.exported(operations.capture(missions=[mission.id]))
    arrived = imported(data, by=User.objects.create_user("ann"), executes=False)
    assert not arrived.mission.executes


def test_the_folder_and_the_team_follow_the_rules_of_a_launch() -> None:
    data = live()
    ann, team = User.objects.create_user("ann"), Group.objects.create(name="payments")
    before = traces()
    with pytest.raises(errors.Invalid, match="may not use the folder"):
        imported(data, by=ann, folder="/srv")
    with pytest.raises(errors.Invalid, match="not in a team"):
        imported(data, by=ann, team=team)
    with pytest.raises(errors.Invalid, match="absolute"):
        imported(data, folder="srv")
    assert traces() == before


def test_what_this_fleet_does_not_have_is_named() -> None:
    opened = Opened.of(live())
    opened.change("top", lambda data: (data.update(type="unknown"), data["spec"].update(agent_type="unknown")))
    with pytest.raises(errors.Conflict, match="the agent type unknown"):
        imported(opened.sealed())
    opened = Opened.of(live())
    opened.change("top", _spec(driver="python", call="os:system"))
    with pytest.raises(errors.Conflict, match="the callable os:system"):
        imported(opened.sealed())


def test_a_digest_is_not_enough_to_read_somebody_elses_artifact(engine: Engine) -> None:
    data = ended(engine)
    ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
    Mission.objects.update(created_by=bob)
    arrived = imported(data, by=ann)
    assert arrived.missing == ("top: report.txt",)
    assert not Artifact.objects.filter(sortie__mission=arrived.mission).exists()
    assert imported(data, by=bob).missing == ()


def test_artifacts_of_an_import_that_fails_are_removed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ended(engine, artifacts=True)
    name = Artifact.objects.get().digest
    Artifact.objects.all().delete()
    collection.forget(name)
    before = traces()

    def fail(**_: object) -> None:
        raise errors.Unavailable

    monkeypatch.setattr("checkpoints.operations.capturing.store", fail)
    with pytest.raises(errors.Unavailable):
        imported(data)
    assert traces() == before


# Any corruption at all


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_corrupted_file_is_refused_or_still_the_same(
    corpus: tuple[list[bytes], set[str]], data: st.DataObject
) -> None:
    files, digests = corpus
    changed = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(changed) - 1)))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "remove", "zero", "copy"])):
            case "flip" if changed:
                changed[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del changed[at:]
            case "insert":
                changed[at:at] = data.draw(st.binary(min_size=1, max_size=600))
            case "remove":
                del changed[at : at + data.draw(st.sampled_from([1, 7, 512, 1024]))]
            case "zero":
                length = len(changed[at : at + 512])
                changed[at : at + length] = bytes(length)
            case _:
                block = at - at % 512
                changed[block:block] = changed[block : block + 512]
    check(bytes(changed), digests)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_sealed_lie_is_refused_or_becomes_exactly_what_it_says(
    corpus: tuple[list[bytes], set[str]], data: st.DataObject
) -> None:
    """The digests fit whatever a line says, so only the checks of the lines stand between it and the database."""
    files, _ = corpus
    opened = Opened.of(data.draw(st.sampled_from(files)))
    key = data.draw(st.sampled_from(sorted(opened.state)))
    change = lambda document: mutate(document, data)  # noqa: E731
    match data.draw(st.sampled_from(["state", "kept", "own", "own kept"])):
        case "state":
            opened.change(key, change)
        case "kept":
            opened.change_kept(key, change)
        case "own":
            opened.change_mission(change)
        case _:
            opened.change_mission(change, line=1)
    check(opened.sealed(), None)


STATES_AND_KEYS = ["due", "pending", "succeeded", "failed", "skipped", "cancelled", "live", "top", "left"]
EXTREMES = [2**31, 2**63, 1e308, "9" * 300, "infinity", "\0", -1]
WORDS = st.sampled_from([*STATES_AND_KEYS, *EXTREMES])
JSON = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def mutate(document: Any, data: st.DataObject) -> None:
    """Replace, remove or add one value somewhere in a document."""
    place = document
    while True:
        names = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not names:
            break
        name = data.draw(st.sampled_from(names))
        if isinstance(place[name], dict | list) and data.draw(st.booleans()):
            place = place[name]
            continue
        if data.draw(st.integers(0, 4)) == 0:
            del place[name]
        else:
            place[name] = data.draw(JSON)
        return
    if isinstance(place, dict):
        place[data.draw(st.text(max_size=5))] = data.draw(JSON)
    else:
        place.append(data.draw(JSON))


@pytest.fixture
def corpus(engine: Engine) -> tuple[list[bytes], set[str]]:
    files = [live(), ended(engine, artifacts=True)]
    digests = {Opened.of(file).manifest.missions[0].digest for file in files}
    return files, digests


def check(data: bytes, digests: set[str] | None) -> None:
    """The file is refused and leaves nothing, or is imported whole."""
    before = traces()
    try:
        arrived = imported(data)
    except errors.FleetError:
        assert traces() == before
        return
    (entry,) = storage.read_manifest(arrived.checkpoint.ref).missions
    assert Sortie.objects.filter(mission=arrived.mission).count() == len(Opened.of(data).state)
    if digests is not None:
        assert entry.digest in digests
