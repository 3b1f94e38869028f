"""An entry says who did what, is written with the effect, holds no secret, and stays as it is."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from fleet import audit, caller
from fleet.audit.models import Entry, Seal
from tests.support.tampering import as_superuser, run

pytestmark = pytest.mark.django_db

ANN = caller.Caller(name="user:ann", user=7, address="192.0.2.1", request="req-1")


def last() -> Entry:
    return Entry.objects.order_by("-id")[0]


def test_it_says_who_did_what_to_what_and_from_where() -> None:
    with caller.acting(ANN):
        audit.record(kind="role.changed", subject="user:bob", before={"role": "user"}, after={"role": "admin"})
    entry = last()
    assert (entry.actor, entry.user_id, entry.address, entry.request) == ("user:ann", 7, "192.0.2.1", "req-1")
    assert (entry.kind, entry.outcome, entry.subject) == ("role.changed", "ok", "user:bob")
    assert (entry.before, entry.after, entry.data) == ({"role": "user"}, {"role": "admin"}, {})


def test_it_is_there_only_if_the_effect_is() -> None:
    with transaction.atomic():
        audit.record(kind="test.undone")
        transaction.set_rollback(True)
    assert not Entry.objects.filter(kind="test.undone").exists()


def test_it_costs_one_statement(django_assert_num_queries: object) -> None:
    with django_assert_num_queries(1):  # type: ignore[operator]
        audit.record(kind="test.cheap", data={"a": 1})


@pytest.mark.django_db(transaction=True)  # or else TRUNCATE would wait for this test's own transaction
@pytest.mark.parametrize("table", ["entry", "seal"])
@pytest.mark.parametrize("order", ["UPDATE {} SET at = now()", "DELETE FROM {}", "TRUNCATE {}"])
def test_nothing_in_the_trail_can_be_changed_or_removed(table: str, order: str) -> None:
    audit.record(kind="test.kept")
    statement = order.format(f"fleet_audit.{table}")
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    with as_superuser(), pytest.raises(DatabaseError, match="only added to"), transaction.atomic():
        run(statement)
    assert last().kind == "test.kept"


def test_the_tables_are_left_alone_when_django_empties_its_own() -> None:
    names = connection.introspection.django_table_names(only_existing=True)
    assert not {Entry._meta.db_table, Seal._meta.db_table, "entry", "seal"} & set(names)


def test_the_fleets_own_secrets_are_never_in_it() -> None:
    held = settings.FLEET_CREDENTIALS
    audit.record(
        kind=f"test {held.admin_password}"[:200],
        subject=held.redis_password,
        before={"note": f"redis://:{held.redis_password}@host/0"},
        after=[held.postgres_password],
        data={held.metrics_token: "a name", "deep": [{"deeper": (held.flower_password,)}]},
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT entry::text FROM fleet_audit.entry ORDER BY id DESC LIMIT 1")
        (row,) = cursor.fetchone()
    for secret in (held.admin_password, held.redis_password, held.postgres_password, held.metrics_token):
        assert secret not in row
    assert held.flower_password not in row


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner),
    max_leaves=20,
)


@trying(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    who=st.text(),
    subject=st.text(alphabet=st.characters(codec=None), max_size=400),
    value=ANY,
    data=st.dictionaries(st.text(), ANY),
)
def test_whatever_it_is_given_it_can_be_stored(who: str, subject: str, value: object, data: dict[str, object]) -> None:
    with caller.acting(caller.Caller(name=who, address=who, request=subject)):
        audit.record(kind="test.any", subject=subject, before=value, after=value, data=data)


def test_what_is_too_large_is_cut_and_says_so() -> None:
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
