"""A manifest, sortie or mission that breaks a rule, or contradicts the rest of its file, is refused with a reason."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User

from checkpoints.document import archive
from checkpoints.document.buckets import combined_digest
from missions.engine.process.runtime import Engine
from missions.models import ConcurrencyKey, Mission
from tests.security.imports.tampered_exports import (
    assert_refused,
    export_ended_mission,
    export_live_mission,
    members,
    pack,
    set_spec_values,
    set_values,
    tar_member,
)
from tests.support.work import archives
from tests.support.work.archives import OpenedExport, import_bytes, sha256

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


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
        (lambda manifest: manifest | {"missions": [with_float_size(manifest["missions"][0])]}, "not an integer"),
        (lambda manifest: manifest | {"missions": [with_duplicate_blob(manifest["missions"][0])]}, "twice"),
    ],
)
def test_an_invalid_manifest_is_refused(change: Callable[[dict[str, Any]], dict[str, Any]], reason: str) -> None:
    (_, data), *blobs = members(export_live_mission())
    document = json.loads(data)
    del document["sha256"]
    document = change(document)
    document["sha256"] = sha256(canonical(document))
    assert_refused(pack([tar_member("manifest.json", canonical(document).encode()), *blobs]), reason)


def canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def with_float_size(entry: dict[str, Any]) -> dict[str, Any]:
    blob, size, digest = entry["mission"]
    return entry | {"mission": [blob, float(size), digest]}


def with_duplicate_blob(entry: dict[str, Any]) -> dict[str, Any]:
    """Name one blob twice, with the matching digest of the mission."""
    part = entry["mission"]
    buckets = {"00": part, "01": part}
    digest = combined_digest(mission=part[2], buckets={0: part[2], 1: part[2]})
    return entry | {"buckets": buckets, "digest": digest}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"a":' * 50_000, '{"sha256": 9' + "9" * 5_000 + "}"]
)
def test_a_file_that_is_not_a_manifest_is_refused(text: str) -> None:
    assert_refused(pack([tar_member("manifest.json", text.encode())]))


STATES = [
    (set_values(key="other"), "does not have two lines"),
    (set_values(type="frontend"), "differ in type"),
    (set_values(type="x" * 65), "schema"),
    (set_values(more=1), "schema"),
    (set_values(priority=1_001), "schema"),
    (set_values(priority=1.0), "Postgres"),
    (set_values(order=-1), "schema"),
    (set_values(order=5), "order"),
    (set_values(order=900_000_000), "order"),
    (set_values(always=True), "differ in always"),
    (set_values(max_tries=9), "differ in max_tries"),
    (set_values(tries=40_000), "schema"),
    (set_values(concurrency_key="other"), "differ in concurrency_key"),
    (set_values(added_by="nobody"), "does not exist"),
    (set_values(added_by="top"), "added each other"),
    (set_values(needs=[["nobody", "nobody"]]), "does not exist"),
    (set_values(needs=[["bottom", "bottom"]]), "needs of its spec"),
    (set_values(state="running"), "schema"),
    (set_values(state="succeeded"), "without an attempt"),
    (set_values(reason="because"), "neither skipped"),
    (set_values(reason="x" * 501), "schema"),
    (set_values(result=1), "before it has ended"),
    (set_values(error="no"), "before it has ended"),
    (set_values(result="\ud800"), "surrogate"),
    (set_values(result="\0"), "NUL"),
    (set_values(result=2**70), "2⁶³"),
    (set_values(artifacts=[{"path": "a", "digest": "0" * 64, "size": 1, "media_type": "a/b"}]), "before it has ended"),
    (set_spec_values(key="other"), "differ in key"),
    (set_spec_values(name="other"), "a different name"),
    (set_spec_values(unknown=1), "schema"),
    (set_spec_values(driver="command"), "work for a driver other than"),
    (set_spec_values(run="true"), "work for a driver other than"),
    (set_spec_values(driver="command", run=5), "schema"),
    (set_spec_values(driver="command", run=[]), "schema"),
    (set_spec_values(driver="python", call="os"), "schema"),
    (set_spec_values(env={"FLEET_TOKEN": "x"}), "schema"),
    (set_spec_values(env={"A": 5}), "schema"),
    (set_spec_values(env={"A=B": "x"}), "schema"),
    (set_spec_values(secret_env=["NONE"]), "does not have"),
    (set_spec_values(matrix_needs=["nobody"]), "does not have"),
    (set_spec_values(groups={"x": ["left", "right"]}), "several sorties"),
    (set_spec_values(groups={"left": ["left"]}), "needs of its spec"),
    (set_spec_values(outputs=["../../etc/passwd"]), "outside its folder"),
    (set_spec_values(outputs=["/etc/passwd"]), "schema"),
    (set_spec_values(outputs=["~/.ssh/id_rsa"]), "schema"),
    (set_spec_values(run_at="2030-01-01T00:00:00"), "does not load"),
    (set_spec_values(run_at="soon"), "does not load"),
    (set_spec_values(run_at="0001-01-01T00:00:00+14:00"), "does not load"),
    (set_spec_values(retry={"max_attempts": 1}), "schema"),
    (
        set_spec_values(retry={"max_attempts": 1.0, "backoff_s": 2, "factor": 2, "max_s": 9, "jitter": True}),
        "float instead of an integer",
    ),
    (set_spec_values(timeout_s=0), "schema"),
    (set_spec_values(timeout_s=1e300), "schema"),
    (set_spec_values(concurrency={"key": "db", "limit": 0}), "schema"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), STATES)
def test_an_invalid_sortie_is_refused(change: archives.Change, reason: str) -> None:
    export = OpenedExport.of(export_live_mission())
    export.change("top", change)
    assert_refused(export.reseal(), reason)


ENDED = [
    (set_values(state="due", result=None), "results before it has ended"),
    (set_values(state="skipped"), "does not match"),
    (set_values(state="failed"), "does not match"),
    (set_values(artifacts=[{"path": "../x", "digest": "0" * 64, "size": 1, "media_type": "a/b"}]), "outside its folder"),
    (set_values(artifacts=[{"path": "/x", "digest": "0" * 64, "size": 1, "media_type": "a/b"}]), "schema"),
    (set_values(artifacts=[{"path": "x", "digest": "0" * 64, "size": 2**63, "media_type": "a/b"}]), "schema"),
    (set_values(artifacts=[{"path": "x", "digest": "0", "size": 1, "media_type": "a/b"}]), "schema"),
    (set_values(artifacts=[{"path": "x", "digest": "0" * 64, "size": 1, "media_type": "a/b\r\nX: y"}]), "schema"),
    (set_values(artifacts=[{"path": "x", "digest": "0" * 64, "size": 1, "media_type": "a/b"}] * 2), "same path"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), ENDED)
def test_an_invalid_ended_sortie_is_refused(engine: Engine, change: archives.Change, reason: str) -> None:
    export = OpenedExport.of(export_ended_mission(engine))
    export.change("top", change)
    assert_refused(export.reseal(), reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_values(accepted=0), "without an attempt"),
        (set_values(outcome="failed"), "its attempt did not"),
        (set_values(outcome=None), "attempt without an outcome"),
        (set_values(accepted=-1), "schema"),
        (set_values(key="left"), "two lines|different keys|sorted"),
        (set_values(note="x" * 201), "schema"),
        (set_values(cpu_s=-1), "schema"),
        (set_values(exit_code=2**40), "schema"),
    ],
)
def test_an_invalid_outcome_is_refused(engine: Engine, change: archives.Change, reason: str) -> None:
    export = OpenedExport.of(export_ended_mission(engine))
    export.change_kept("top", change)
    assert_refused(export.reseal(), reason)


def test_cycles_are_refused() -> None:
    export = OpenedExport.of(export_live_mission())
    export.change(
        "top",
        lambda data: (
            data["spec"].update(groups={"bottom": ["bottom"]}),
            data.update(state="pending", needs=[["bottom", "bottom"]]),
        ),
    )
    assert_refused(export.reseal(), "cycle")
    export = OpenedExport.of(export_live_mission())
    export.change("top", set_values(added_by="left"))
    export.change("left", set_values(added_by="top"))
    assert_refused(export.reseal(), "added each other")


def test_a_sortie_in_the_wrong_bucket_is_refused() -> None:
    export = OpenedExport.of(export_live_mission())
    line = export.state.pop("top")
    kept_line = export.kept.pop("top")
    export.state["left"], export.kept["left"] = line, kept_line
    assert_refused(export.reseal(), "another bucket|different keys|needs")


def test_other_spellings_of_the_same_values_are_refused() -> None:
    """They would be stored as the same rows, whose digest would then differ from that of the file."""
    for old, new in (
        ('"order":', '"order": '),
        ('"priority":0', '"priority":0,"priority":0'),
        ('"top"', '"\\u0074op"'),
    ):
        export = OpenedExport.of(export_live_mission())
        export.state["top"] = export.state["top"].replace(old, new)
        assert_refused(export.reseal(), "form that a fleet writes|needs")
    export = OpenedExport.of(export_live_mission())
    export.mission_lines[0] = export.mission_lines[0].replace(": ", ":")
    assert_refused(export.reseal(), "form that a fleet writes")


@pytest.mark.parametrize(
    "line", ["", "[]", "{}", '{"key":', '{"key":' + "[" * 100_000, '{"key":"\\ud800"}', "{" * 50, '{"key":"top"}', "\0"]
)
def test_a_line_that_is_not_a_row_is_refused(line: str) -> None:
    """Nothing is valid but the digests."""
    data = OpenedExport.of(export_live_mission())
    text = f"{line}\n\n{line}\n"
    part = archives.part(text, sha256(line))
    (entry,) = data.manifest.missions
    number = next(iter(entry.buckets))
    entry = replace(entry, buckets={number: part})
    out = io.BytesIO()
    writer = archive.Writer(out)
    writer.manifest(replace(data.manifest, missions=(entry,)))
    writer.blob(entry.mission, "".join(f"{own}\n" for own in data.mission_lines).encode())
    writer.blob(part, text.encode())
    writer.close()
    assert_refused(out.getvalue())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_values(state="running"), "schema"),
        (set_values(state="succeeded"), "all of its sorties"),
        (set_values(name="x" * 201), "schema"),
        (set_values(name=""), "schema"),
        (set_values(priority=10**6), "schema"),
        (set_values(at_once=-1), "schema"),
        (set_values(inputs={"a b": 1}), "schema"),
        (set_values(inputs={"a": 2**70}), "2⁶³"),
        (set_values(defaults={"env": {"FLEET_TOKEN": "x"}}), "defaults"),
        (set_values(defaults={"cwd": 5}), "defaults"),
        (set_values(defaults={"unknown": 5}), "defaults"),
        (set_values(plan=5), "schema"),
        (set_values(checkpoints={"every_s": 0}), "schema"),
        (set_values(checkpoints={"on": ["anything"]}), "schema"),
        (set_values(owner="root"), "schema"),
    ],
)
def test_an_invalid_mission_is_refused(change: archives.Change, reason: str) -> None:
    export = OpenedExport.of(export_live_mission())
    export.change_mission(change)
    assert_refused(export.reseal(), reason)


@pytest.mark.parametrize("state", ["failed", "cancelled", "succeeded"])
def test_the_state_of_an_ended_mission_fits_its_sorties(engine: Engine, state: str) -> None:
    export = OpenedExport.of(export_ended_mission(engine))
    export.change_mission(set_values(state=state))
    if state == "failed":
        assert_refused(export.reseal(), "does not match")
    else:
        assert import_bytes(export.reseal()).mission.state == state


def test_owner_template_and_paths_in_the_file_are_ignored(engine: Engine) -> None:
    export = OpenedExport.of(export_ended_mission(engine))
    victim = Mission.objects.get()
    User.objects.create_superuser("root")
    ConcurrencyKey.objects.create(key="theirs", limit=5)
    export.change_mission(set_values(folder="/root", readable=["/etc/shadow"]))
    export.change_mission(
        set_values(
            mission=str(victim.id), owner="root", team="admins", template="trusted", can_execute=True,
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
    for key in export.state:
        export.change_kept(key, set_values(**hostile))
    ann = User.objects.create_user("ann")
    mission = import_bytes(export.reseal(), by=ann).mission
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
