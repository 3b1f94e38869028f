"""The application's database password is not enough to stop or falsify the sealing of the audit trail."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from django.forms import model_to_dict

from fleet import audit, errors
from fleet.audit import anchor, chain, sealing, verification
from fleet.audit.models import Entry, Seal
from fleet.celery import app
from fleet.postgres.locks import Lock
from missions.control import alerts
from missions.control.loop import ControlLoop
from missions.hints import HintPublisher
from missions.models import Alert
from tests.support.postgres.sealing import seal
from tests.support.postgres.tampering import as_superuser, run
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

END = 2**63 - 1


def next_seal(**changed: Any) -> Seal:
    """A seal of the first unsealed entry, well-formed except for these changes."""
    head = Seal.objects.order_by("-number").first()
    cluster, now = sealing.cluster_and_time()
    row = chain.rows(Entry.objects.filter(id=_first_unsealed()))[0]
    forged = Seal(
        number=head.number + 1 if head else 1, at=now, cluster=cluster, first_xid=row[2], first_id=row[0],
        last_xid=row[2], last_id=row[0], count=1, leaves=chain.pack_leaves([chain.leaf(row)]),
        previous=head.digest if head else chain.START,
    )  # fmt: skip
    for name, value in changed.items():
        setattr(forged, name, value)
    forged.digest = changed.get("digest") or chain.digest(forged)
    return forged


def _first_unsealed() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM fleet_audit.entry WHERE xid > (SELECT coalesce(max(last_xid), 0) FROM fleet_audit.seal)"
            " ORDER BY xid, id LIMIT 1"
        )
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize(
    "changed",
    [
        {"last_xid": END},
        {"last_xid": END, "last_id": END},
        {"last_id": END},
        {"number": 10**9},
        {"previous": "f" * 64},
        {"digest": "e" * 64},
        {"cluster": 42},
        {"first_id": 1, "first_xid": 1},
        {"count": 2, "leaves": b"\0" * 80},
        {"leaves": END.to_bytes(8, "big") + b"\0" * 32},
        {"at": datetime(9999, 12, 31, tzinfo=UTC)},
        {"at": datetime(1, 1, 1, tzinfo=UTC)},
    ],
    ids=lambda changed: " and ".join(changed),
)
def test_a_seal_out_of_order_is_refused_and_sealing_continues(changed: dict[str, Any]) -> None:
    seal()
    audit.record(kind="test.forged")
    until(_settled)
    forged = next_seal(**changed)
    with pytest.raises(DatabaseError), transaction.atomic():
        forged.save(force_insert=True)
    assert seal() == 1
    assert verification.verify(unsealed_s=0).problems == []


@pytest.mark.parametrize("at", ["20000-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC", "infinity"])
def test_a_seal_with_a_time_that_python_cannot_read_is_refused(at: str) -> None:
    """With it, every later seal and every verification would fail."""
    seal()
    audit.record(kind="test.forged")
    until(_settled)
    forged = next_seal()
    with pytest.raises(DatabaseError, match="its time does not continue the chain"), transaction.atomic():
        run(
            "INSERT INTO fleet_audit.seal SELECT * FROM jsonb_populate_record(NULL::fleet_audit.seal, %s)",
            json.dumps({**model_to_dict(forged), "at": at, "leaves": f"\\x{forged.leaves.hex()}"}),
        )
    assert seal() == 1
    assert verification.verify(unsealed_s=0).problems == []


def test_an_older_forged_seal_is_reported_and_does_not_stop_sealing() -> None:
    audit.record(kind="test.before")
    seal()
    audit.record(kind="test.forged")
    forged = next_seal(last_xid=END)
    try:
        with as_superuser(), transaction.atomic():
            run("ALTER TABLE fleet_audit.seal DISABLE TRIGGER accept")
            forged.save(force_insert=True)
            run("ALTER TABLE fleet_audit.seal ENABLE ALWAYS TRIGGER accept")
        assert seal() == 1
        audit.record(kind="test.after")
        assert seal() == 1
        found = verification.verify(unsealed_s=0).problems
        assert [(problem.number, problem.problem) for problem in found] == [(forged.number, "forged")]
        assert f"transaction {END}" in found[0].message
    finally:
        with as_superuser(), transaction.atomic():  # later tests share the chain
            run("ALTER TABLE fleet_audit.seal DISABLE TRIGGER refuse")
            run("DELETE FROM fleet_audit.seal WHERE number >= %s", forged.number)
            run("ALTER TABLE fleet_audit.seal ENABLE ALWAYS TRIGGER refuse")
        seal()
    assert verification.verify(unsealed_s=0).problems == []


def test_an_open_transaction_that_delays_sealing_is_reported_and_raises_an_alert(settings: Any) -> None:
    settings.FLEET_ALERT_UNSEALED_S = 0.1
    value = connection.get_connection_params()
    address = {name: value[name] for name in ("host", "port", "user", "password", "dbname")}
    seal()
    with psycopg.connect(**address, application_name="forgotten shell") as session:
        session.execute("SELECT pg_current_xact_id()")
        audit.record(kind="test.waiting")
        until(lambda: sealing.blocker(longer_than_s=0.1))
        assert sealing.seal() == 0
        values = sealing.blocker(longer_than_s=0.1)
        assert values is not None
        until(lambda: (values := sealing.blocker(longer_than_s=0.1)) and values.pid == session.info.backend_pid)
        alerts.AlertMonitor().check()
        (alert,) = Alert.objects.filter(rule="audit_unsealed")
        assert f"process {session.info.backend_pid} (forgotten shell, role {session.info.user}" in alert.message
        assert f"pg_terminate_backend({session.info.backend_pid})" in alert.message
    assert seal() == 1
    assert sealing.blocker(longer_than_s=0.1) is None


def test_a_session_that_holds_the_lock_of_the_sealing_raises_an_alert(settings: Any) -> None:
    settings.FLEET_ALERT_UNSEALED_S = 0.1
    value = connection.get_connection_params()
    address = {name: value[name] for name in ("host", "port", "user", "password", "dbname")}
    seal()
    with psycopg.connect(**address, application_name="forgotten shell", autocommit=True) as session:
        session.execute("SELECT pg_advisory_lock(%s)", [Lock.SEALING])
        audit.record(kind="test.waiting")
        assert sealing.seal() == 0
        until(lambda: (values := sealing.blocker(longer_than_s=0.1)) and values.pid == session.info.backend_pid)
        alerts.AlertMonitor().check()
        (alert,) = Alert.objects.filter(rule="audit_unsealed")
        assert f"process {session.info.backend_pid} (forgotten shell, role {session.info.user}" in alert.message
        assert "has held the lock that sealing needs for" in alert.message
    assert seal() == 1
    assert sealing.blocker(longer_than_s=0.1) is None


def test_heads_stored_elsewhere_reveal_a_rewritten_chain(tmp_path: Path, settings: Any) -> None:
    settings.FLEET_AUDIT_ANCHOR = str(tmp_path / "heads")
    control = ControlLoop(hint_publisher=HintPublisher(app))
    for number in range(2):
        audit.record(kind="test.anchored", data={"n": number})
        seal()
        control.beat()
    control.beat()  # no new seal
    stored_heads = Path(settings.FLEET_AUDIT_ANCHOR)
    heads = list(anchor.read(stored_heads))
    assert len(heads) == len(set(heads)) >= 2
    assert stored_heads.stat().st_mode & 0o777 == 0o600
    assert verification.verify(heads=heads).problems == []
    rewritten_heads = [(number, "0" * 64) for number, _ in heads]
    assert [(problem.number, problem.problem) for problem in verification.verify(heads=rewritten_heads).problems] == [
        (number, "changed") for number, _ in heads
    ]
    heads_beyond_the_end = [*heads, (heads[-1][0] + 7, "0" * 64)]
    assert [problem.problem for problem in verification.verify(heads=heads_beyond_the_end).problems] == ["removed"]
    stored_heads.write_text("12:ab")
    with pytest.raises(errors.Invalid, match="Line 1"):
        list(anchor.read(stored_heads))


def test_an_unwritable_anchor_is_reported_once_and_stops_nothing(
    tmp_path: Path, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.FLEET_AUDIT_ANCHOR = str(tmp_path / "missing" / "heads")
    audit.record(kind="test.anchored")
    seal()
    recorder = anchor.Anchor()
    with caplog.at_level(logging.WARNING, "fleet.audit"):
        recorder.append_head()
        recorder.append_head()
    assert len([record for record in caplog.records if "FLEET_AUDIT_ANCHOR" in record.getMessage()]) == 1
    Path(settings.FLEET_AUDIT_ANCHOR).parent.mkdir()
    recorder.append_head()
    assert len(list(anchor.read(Path(settings.FLEET_AUDIT_ANCHOR)))) == 1


def _settled() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > coalesce(max(xid), 0) FROM fleet_audit.entry"
        )
        return bool(cursor.fetchone()[0])
