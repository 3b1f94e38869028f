"""`fleet_audit list|verify|protect`."""

from __future__ import annotations

import pytest
from django.conf import settings

from fleet import audit, caller
from fleet.audit.models import Entry
from fleet.celery import app
from missions.control.loop import ControlLoop
from missions.hints import HintPublisher
from tests.support.console import manage
from tests.support.paths import CHECKOUT
from tests.support.postgres.sealing import seal
from tests.support.postgres.tampering import tampered
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_list_shows_the_newest_entries_first_and_filters_them() -> None:
    with caller.acting_as(caller.Caller(name="user:ann", user=1, address="192.0.2.1", request="req-1")):
        audit.record(kind="listing.changed", subject="msn_1", before={"n": 1}, after={"n": 2})
        audit.record(kind="listing", outcome="denied", subject="msn_2\x1b[31m")
    audit.record(kind="listings", subject="msn_1")
    result = manage("fleet_audit", "list", "--kind", "listing", "--since", "10m", "--json")
    assert [line["kind"] for line in result.lines[:2]] == ["listing", "listing.changed"]
    assert {line["kind"] for line in result.lines} == {"listing", "listing.changed"}
    assert result.lines[1] == result.lines[1] | {
        "outcome": "ok", "actor": "user:ann", "user": 1, "address": "192.0.2.1", "request": "req-1", "subject": "msn_1",
        "before": {"n": 1}, "after": {"n": 2}, "data": {},
    }  # fmt: skip
    for option in (("--actor", "user:ann"), ("--subject", "msn_2\\u001b[31m"), ("--outcome", "denied")):
        found = manage("fleet_audit", "list", *option, "-n", "1", "--json").lines
        assert [line["kind"] for line in found] == ["listing"]
    none = manage("fleet_audit", "list", "--since", "2999-01-01T00:00")
    assert (none.out, none.err) == ("", "No matching entries.\n")
    text = manage("fleet_audit", "list", "-n", "2").out
    assert "\x1b" not in text
    header, _, line = text.splitlines()
    assert header.split("  ")[0:1] == ["ID"]
    for name, value in (
        ("KIND", "listing "),
        ("OUTCOME", "denied "),
        ("ACTOR", "user:ann "),
        ("ADDRESS", "192.0.2.1 "),
    ):
        assert line[header.index(name) :].startswith(value)


def test_an_outcome_that_the_kind_already_says_is_not_repeated() -> None:
    audit.record(kind="denied", outcome="denied", subject="/api/v1/users")
    (header, line) = manage("fleet_audit", "list", "--kind", "denied", "-n", "1").out.splitlines()
    assert "TIME (UTC)" in header
    assert line.count("denied") == 1


@pytest.mark.parametrize(
    "arguments", [("--since", "yesterday"), ("--since", "9999999d"), ("--outcome", "good"), ("-n", "-1")]
)
def test_list_refuses_invalid_filters(arguments: tuple[str, ...]) -> None:
    assert manage("fleet_audit", "list", *arguments).code == 2


def test_verify_exits_with_0_for_an_intact_chain_and_with_1_otherwise() -> None:
    audit.record(kind="test.verified")
    seal()
    good = manage("fleet_audit", "verify", "--json")
    assert good.code == 0
    assert good.json["ok"] is True
    head = f"{good.json['number']}:{good.json['digest']}"
    assert head in manage("fleet_audit", "verify", "--head", head).out
    assert manage("fleet_audit", "verify", "--head", "1:abc").code == 2
    last = Entry.objects.order_by("-id")[0].id
    with tampered(last):
        bad = manage("fleet_audit", "verify", "--json")
        assert bad.code == 1
        assert [(item["record"], item["number"], item["problem"]) for item in bad.json["problems"]] == [
            ("entry", last, "changed")
        ]
        output = manage("fleet_audit", "verify").out
        assert f"CHANGED   Entry {last} was changed after it was written" in output
        assert "1 problem found: only " in output
    assert manage("fleet_audit", "verify").code == 0


def test_the_control_loop_seals() -> None:
    audit.record(kind="test.beat")
    control = ControlLoop(hint_publisher=HintPublisher(app))

    def all_sealed() -> bool:
        control.beat()
        return bool(manage("fleet_audit", "verify", "--json").json["waiting"] == 0)

    until(all_sealed)


def test_the_docs_show_the_sql_that_protect_prints() -> None:
    sql = manage("fleet_audit", "protect").out.strip()
    endpoints = settings.FLEET_ENDPOINTS
    if endpoints.provider == "external" and endpoints.owner is not None:  # a last line that the page describes
        *_, last = sql.splitlines()
        assert last == f'GRANT fleet_audit TO "{endpoints.owner.user}";'
        sql = sql.removesuffix(last).strip()
    assert sql in (CHECKOUT / "docs" / "audit-trail.md").read_text()


def test_cleanup_does_not_change_the_audit_trail() -> None:
    audit.record(kind="test.kept")
    before = Entry.objects.count()
    assert manage("fleet_cleanup", "--yes", "--days", "0", "--most", "0").code == 0
    assert Entry.objects.count() == before
