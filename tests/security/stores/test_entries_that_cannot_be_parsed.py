"""Whoever may add entries to the audit trail cannot make it unreadable with a document that Python does not parse."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import call_command

from fleet import audit
from fleet.access.models import Role
from fleet.audit import verification
from tests.support import api, web
from tests.support.postgres.sealing import seal
from tests.support.postgres.tampering import run

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

DOCUMENTS = {
    "deep": "[" * 3_000 + "]" * 3_000,
    "almost too deep": "[" * 900 + "]" * 900,
    "a long number": f'{{"n": 1{"0" * 5_000}}}',
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_the_trail_with_such_an_entry_can_be_read_sealed_and_verified(document: str) -> None:
    audit.record(kind="unreadable.before", data={"n": 1})
    run(
        "INSERT INTO fleet_audit.entry (kind, outcome, actor, address, request, subject, before, data)"
        " VALUES ('unreadable.hostile', 'ok', 'a', '', '', '', %s, %s)",
        document,
        document,
    )
    entries = api.person("root", Role.ADMIN).get("audit?kind=unreadable").json()["results"]
    assert [entry["kind"] for entry in entries[:2]] == ["unreadable.hostile", "unreadable.before"]
    assert entries[0]["data"] == entries[0]["before"] == {"unreadable": document[:1_000]}
    assert entries[1]["data"] == {"n": 1}
    output = StringIO()
    call_command("fleet_audit", "list", "--json", stdout=output)
    assert json.loads(output.getvalue().splitlines()[0])
    call_command("fleet_audit", "list", stdout=output)
    assert web.superuser().get("/admin/fleet/entry/").status_code == 200
    seal()
    assert verification.verify(unsealed_s=0).problems == []
