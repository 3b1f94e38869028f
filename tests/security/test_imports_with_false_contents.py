"""A manifest, a sortie or a mission in a file that contradicts the rest or the rules is refused with a reason."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User

from checkpoints.document.buckets import combined_digest
from missions.engine.process.runtime import Engine
from missions.models import ConcurrencyKey, Mission
from tests.security.lying_files import ended, imported, live, members, named, packed, refuse, setting, setting_spec
from tests.support import archives
from tests.support.archives import Opened, sha256

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
def test_a_file_that_is_not_a_manifest_is_refused(text: str) -> None:
    refuse(packed([named("manifest.json", text.encode())]))


STATES = [
    (setting(key="other"), "does not have two lines"),
    (setting(type="frontend"), "differ in type"),
    (setting(type="x" * 65), "schema"),
    (setting(more=1), "schema"),
    (setting(priority=1_001), "schema"),
    (setting(priority=1.0), "Postgres"),
    (setting(order=-1), "schema"),
    (setting(order=5), "order"),
    (setting(order=900_000_000), "order"),
    (setting(always=True), "differ in always"),
    (setting(max_tries=9), "differ in max_tries"),
    (setting(tries=40_000), "schema"),
    (setting(concurrency_key="other"), "differ in concurrency_key"),
    (setting(added_by="nobody"), "does not exist"),
    (setting(added_by="top"), "added each other"),
    (setting(needs=[["nobody", "nobody"]]), "does not exist"),
    (setting(needs=[["bottom", "bottom"]]), "needs of its spec"),
    (setting(state="running"), "schema"),
    (setting(state="succeeded"), "without an attempt"),
    (setting(reason="because"), "neither skipped"),
    (setting(reason="x" * 501), "schema"),
    (setting(result=1), "before it has ended"),
    (setting(error="no"), "before it has ended"),
    (setting(result="\ud800"), "surrogate"),
    (setting(result="\0"), "NUL"),
    (setting(result=2**70), "2⁶³"),
    (setting(artifacts=[{"path": "a", "digest": "0" * 64, "size": 1, "media_type": "a/b"}]), "before it has ended"),
    (setting_spec(key="other"), "differ in key"),
    (setting_spec(name="other"), "a different name"),
    (setting_spec(unknown=1), "schema"),
    (setting_spec(driver="command"), "work for a driver other than"),
    (setting_spec(run="true"), "work for a driver other than"),
    (setting_spec(driver="command", run=5), "schema"),
    (setting_spec(driver="command", run=[]), "schema"),
    (setting_spec(driver="python", call="os"), "schema"),
    (setting_spec(env={"FLEET_TOKEN": "x"}), "schema"),
    (setting_spec(env={"A": 5}), "schema"),
    (setting_spec(env={"A=B": "x"}), "schema"),
    (setting_spec(secret_env=["NONE"]), "does not have"),
    (setting_spec(many=["nobody"]), "does not have"),
    (setting_spec(groups={"x": ["left", "right"]}), "several sorties"),
    (setting_spec(groups={"left": ["left"]}), "needs of its spec"),
    (setting_spec(outputs=["../../etc/passwd"]), "outside its folder"),
    (setting_spec(outputs=["/etc/passwd"]), "schema"),
    (setting_spec(outputs=["~/.ssh/id_rsa"]), "schema"),
    (setting_spec(run_at="2030-01-01T00:00:00"), "does not load"),
    (setting_spec(run_at="soon"), "does not load"),
    (setting_spec(run_at="0001-01-01T00:00:00+14:00"), "does not load"),
    (setting_spec(retry={"max_attempts": 1}), "schema"),
    (
        setting_spec(retry={"max_attempts": 1.0, "backoff_s": 2, "factor": 2, "max_s": 9, "jitter": True}),
        "float instead of an integer",
    ),
    (setting_spec(timeout_s=0), "schema"),
    (setting_spec(timeout_s=1e300), "schema"),
    (setting_spec(concurrency={"key": "db", "limit": 0}), "schema"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), STATES)
def test_a_sortie_that_lies_is_refused(change: archives.Change, reason: str) -> None:
    opened = Opened.of(live())
    opened.change("top", change)
    refuse(opened.sealed(), reason)


ENDED = [
    (setting(state="due", result=None), "results before it has ended"),
    (setting(state="skipped"), "does not match"),
    (setting(state="failed"), "does not match"),
    (setting(artifacts=[{"path": "../x", "digest": "0" * 64, "size": 1, "media_type": "a/b"}]), "outside its folder"),
    (setting(artifacts=[{"path": "/x", "digest": "0" * 64, "size": 1, "media_type": "a/b"}]), "schema"),
    (setting(artifacts=[{"path": "x", "digest": "0" * 64, "size": 2**63, "media_type": "a/b"}]), "schema"),
    (setting(artifacts=[{"path": "x", "digest": "0", "size": 1, "media_type": "a/b"}]), "schema"),
    (setting(artifacts=[{"path": "x", "digest": "0" * 64, "size": 1, "media_type": "a/b\r\nX: y"}]), "schema"),
    (setting(artifacts=[{"path": "x", "digest": "0" * 64, "size": 1, "media_type": "a/b"}] * 2), "same path"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), ENDED)
def test_an_ended_sortie_that_lies_is_refused(engine: Engine, change: archives.Change, reason: str) -> None:
    opened = Opened.of(ended(engine))
    opened.change("top", change)
    refuse(opened.sealed(), reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (setting(accepted=0), "without an attempt"),
        (setting(outcome="failed"), "its attempt did not"),
        (setting(outcome=None), "attempt without an outcome"),
        (setting(accepted=-1), "schema"),
        (setting(key="left"), "two lines|different keys|sorted"),
        (setting(note="x" * 201), "schema"),
        (setting(cpu_s=-1), "schema"),
        (setting(exit_code=2**40), "schema"),
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
    opened.change("top", setting(added_by="left"))
    opened.change("left", setting(added_by="top"))
    refuse(opened.sealed(), "added each other")


def test_a_sortie_in_the_wrong_bucket_is_refused() -> None:
    opened = Opened.of(live())
    line = opened.state.pop("top")
    kept = opened.kept.pop("top")
    opened.state["left"], opened.kept["left"] = line, kept
    refuse(opened.sealed(), "another bucket|different keys|needs")


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
def test_a_line_that_is_not_a_row_is_refused(line: str) -> None:
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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (setting(state="running"), "schema"),
        (setting(state="succeeded"), "all of its sorties"),
        (setting(name="x" * 201), "schema"),
        (setting(name=""), "schema"),
        (setting(priority=10**6), "schema"),
        (setting(at_once=-1), "schema"),
        (setting(inputs={"a b": 1}), "schema"),
        (setting(inputs={"a": 2**70}), "2⁶³"),
        (setting(defaults={"env": {"FLEET_TOKEN": "x"}}), "defaults"),
        (setting(defaults={"cwd": 5}), "defaults"),
        (setting(defaults={"unknown": 5}), "defaults"),
        (setting(plan=5), "schema"),
        (setting(checkpoints={"every_s": 0}), "schema"),
        (setting(checkpoints={"on": ["anything"]}), "schema"),
        (setting(owner="root"), "schema"),
    ],
)
def test_a_mission_that_lies_is_refused(change: archives.Change, reason: str) -> None:
    opened = Opened.of(live())
    opened.change_mission(change)
    refuse(opened.sealed(), reason)


@pytest.mark.parametrize("state", ["failed", "cancelled", "succeeded"])
def test_the_state_of_an_ended_mission_fits_its_sorties(engine: Engine, state: str) -> None:
    opened = Opened.of(ended(engine))
    opened.change_mission(setting(state=state))
    if state == "failed":
        refuse(opened.sealed(), "does not match")
    else:
        assert imported(opened.sealed()).mission.state == state


def test_owner_template_and_paths_in_the_file_are_ignored(engine: Engine) -> None:
    opened = Opened.of(ended(engine))
    victim = Mission.objects.get()
    User.objects.create_superuser("root")
    ConcurrencyKey.objects.create(key="theirs", limit=5)
    opened.change_mission(setting(folder="/root", readable=["/etc/shadow"]))
    opened.change_mission(
        setting(
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
        opened.change_kept(key, setting(**hostile))
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
