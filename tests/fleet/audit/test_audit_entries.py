"""An audit entry says who did what, is written with the change, contains no secret, and is immutable."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from fleet import audit, caller
from fleet.audit.models import Entry, Seal
from tests.support.postgres.tampering import as_superuser, run

pytestmark = pytest.mark.django_db

ANN = caller.Caller(name="user:ann", user=7, address="192.0.2.1", request="req-1")


def last() -> Entry:
    return Entry.objects.order_by("-id")[0]


def test_an_entry_names_caller_action_subject_and_address() -> None:
    with caller.acting_as(ANN):
        audit.record(kind="role.changed", subject="user:bob", before={"role": "user"}, after={"role": "admin"})
    entry = last()
    assert (entry.actor, entry.user_id, entry.address, entry.request) == ("user:ann", 7, "192.0.2.1", "req-1")
    assert (entry.kind, entry.outcome, entry.subject) == ("role.changed", "ok", "user:bob")
    assert (entry.before, entry.after, entry.data) == ({"role": "user"}, {"role": "admin"}, {})


def test_an_entry_exists_only_if_the_change_is_committed() -> None:
    with transaction.atomic():
        audit.record(kind="test.undone")
        transaction.set_rollback(True)
    assert not Entry.objects.filter(kind="test.undone").exists()


def test_an_entry_costs_one_statement(django_assert_num_queries: object) -> None:
    with django_assert_num_queries(1):  # type: ignore[operator]
        audit.record(kind="test.cheap", data={"a": 1})


@pytest.mark.django_db(transaction=True)  # otherwise TRUNCATE would wait for this test's own transaction
@pytest.mark.parametrize("table", ["entry", "seal"])
@pytest.mark.parametrize("order", ["UPDATE {} SET at = now()", "DELETE FROM {}", "TRUNCATE {}"])
def test_entries_cannot_be_changed_or_removed(table: str, order: str) -> None:
    audit.record(kind="test.kept")
    statement = order.format(f"fleet_audit.{table}")
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    with as_superuser(), pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        run(statement)
    assert last().kind == "test.kept"


def test_flushing_django_tables_keeps_the_audit_trail() -> None:
    names = connection.introspection.django_table_names(only_existing=True)
    assert not {Entry._meta.db_table, Seal._meta.db_table, "entry", "seal"} & set(names)


def test_entries_never_contain_the_fleets_own_secrets() -> None:
    values = settings.FLEET_CREDENTIALS
    audit.record(
        kind=f"test {values.admin_password}"[:200],
        subject=values.redis_password,
        before={"note": f"redis://:{values.redis_password}@host/0"},
        after=[values.postgres_password],
        data={values.metrics_token: "a name", "deep": [{"deeper": (values.flower_password,)}]},
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT entry::text FROM fleet_audit.entry ORDER BY id DESC LIMIT 1")
        (row,) = cursor.fetchone()
    for secret in (values.admin_password, values.redis_password, values.postgres_password, values.metrics_token):
        assert secret not in row
    assert values.flower_password not in row


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner),
    max_leaves=20,
)


@trying(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    actor=st.text(),
    subject=st.text(alphabet=st.characters(codec=None), max_size=400),
    value=ANY,
    data=st.dictionaries(st.text(), ANY),
)
def test_any_data_can_be_recorded(actor: str, subject: str, value: object, data: dict[str, object]) -> None:
    with caller.acting_as(caller.Caller(name=actor, address=actor, request=subject)):
        audit.record(kind="test.any", subject=subject, before=value, after=value, data=data)
    assert last().kind == "test.any"


def test_large_data_is_cut_and_marked() -> None:
    endless: list[object] = []
    endless.append(endless)
    audit.record(
        kind="k" * 100, subject="s" * 1_000, before="x" * 10_000, after=endless,
        data={f"n{i}": "y" * 1_000 for i in range(300)} | {"number": 10**6_000},
    )  # fmt: skip
    entry = last()
    assert len(entry.kind) == 60
    assert len(entry.subject) == 200
    assert entry.before == "x" * 1_999 + "…"
    assert entry.data["length"] > 16_384
    assert len(entry.data["cut"]) == 8_192
