"""The hash chain covers every entry in the order of transactions, and reveals every later change."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, connections, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from fleet import audit
from fleet.audit import chain, sealing, verification
from fleet.audit.models import Entry, Seal
from fleet.audit.verification import AuditProblem
from tests.support.postgres.sealing import seal
from tests.support.postgres.tampering import run, tampering
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def write_entries(number: int) -> list[int]:
    """Write entries, each in its own transaction, none of them sealed. Returns their ids."""
    for count in range(number):
        audit.record(kind="test.chain", subject=f"thing {count}", data={"n": count})
    return sorted(Entry.objects.order_by("-id").values_list("id", flat=True)[:number])


@pytest.fixture
def links() -> list[tuple[Seal, list[int]]]:
    """Five seals of four entries each, at the end of an intact chain."""
    seal()
    groups = []
    for _ in range(5):
        ids = write_entries(4)
        assert seal() == 4
        groups.append((Seal.objects.order_by("-number")[0], ids))
    assert problems() == []
    return groups


def problems(**more: object) -> list[AuditProblem]:
    return verification.verify(unsealed_s=0, **more).problems  # type: ignore[arg-type]


def reported_problems() -> list[tuple[str, int, str]]:
    return [(problem.record, problem.number, problem.problem) for problem in problems()]


def all_sealed() -> bool:
    """Seal what can be sealed now. Returns whether everything is sealed."""
    sealing.seal()
    report = verification.verify(unsealed_s=0)
    return not report.waiting and not report.problems


def test_entries_are_sealed_once_and_in_order() -> None:
    seal()
    before = verification.verify(unsealed_s=0)
    ids = write_entries(5)
    assert verification.verify().waiting == 5
    assert seal() == 5
    assert seal() == 0
    after = verification.verify(unsealed_s=0)
    assert (after.seals, after.entries, after.waiting, after.problems) == (before.seals + 1, before.entries + 5, 0, [])
    last = Seal.objects.order_by("-number")[0]
    assert [leaf.id for leaf in chain.unpack_leaves(bytes(last.leaves))] == ids
    assert last.previous == before.digest
    assert last.digest == after.digest


def test_many_entries_are_sealed_in_batches() -> None:
    seal()
    write_entries(7)
    assert seal(batch=3) == 7
    assert list(Seal.objects.order_by("-number").values_list("count", flat=True)[:3]) == [1, 3, 3]
    assert problems() == []


def in_a_thread(function: Callable[[], object]) -> threading.Thread:
    def work() -> None:
        function()
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_an_entry_that_commits_late_is_sealed() -> None:
    seal()
    has_number, may_end = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            audit.record(kind="test.late")
            has_number.set()
            may_end.wait(60)

    thread = in_a_thread(slow)
    assert has_number.wait(60)
    audit.record(kind="test.early")
    assert sealing.seal() == 0  # the slow transaction may still precede it
    assert problems() == []  # not a problem, however long it takes
    may_end.set()
    thread.join(60)
    assert seal() == 2
    assert list(Entry.objects.order_by("xid", "id").values_list("kind", flat=True))[-2:] == ["test.late", "test.early"]
    assert problems() == []


def test_concurrent_sealers_make_one_chain() -> None:
    write_entries(40)
    ready = threading.Barrier(4)

    def sealer() -> None:
        ready.wait(60)
        for _ in range(20):
            audit.record(kind="test.busy")
            sealing.seal()

    threads = [in_a_thread(sealer) for _ in range(4)]
    for thread in threads:
        thread.join(60)
    seal()
    report = verification.verify(unsealed_s=0)
    assert report.problems == []
    assert report.entries == Entry.objects.count()


def test_a_removed_entry_is_reported(links: list[tuple[Seal, list[int]]]) -> None:
    removed_id = links[2][1][1]
    with tampering():
        run("DELETE FROM fleet_audit.entry WHERE id = %s", removed_id)
        assert reported_problems() == [("entry", removed_id, "removed")]
    assert reported_problems() == []


def test_a_changed_entry_is_reported(links: list[tuple[Seal, list[int]]]) -> None:
    item = links[1][1][3]
    for change in (
        "actor = 'user:eve'", "outcome = 'denied'", "at = at + interval '1 microsecond'", "data = data || '{\"n\": 9}'",
        "user_id = 1", "before = '1'", "after = 'null'", "address = '::1'", "kind = 'x'", "subject = ''", "request = 'r'",
    ):  # fmt: skip
        with tampering():
            run(f"UPDATE fleet_audit.entry SET {change} WHERE id = {item}")
            assert reported_problems() == [("entry", item, "changed")], change


def swap(entry_number: int, other: int) -> None:
    run(
        "UPDATE fleet_audit.entry e SET xid = o.xid FROM fleet_audit.entry o "
        "WHERE (e.id = %s AND o.id = %s) OR (o.id = %s AND e.id = %s)",
        entry_number, other, entry_number, other,
    )  # fmt: skip


def test_swapped_entries_are_reported(links: list[tuple[Seal, list[int]]]) -> None:
    (_, (first, _, third, _)), (_, (other, *_)) = links[1], links[3]
    with tampering():
        swap(first, third)
        assert reported_problems() == [("entry", first, "reordered"), ("entry", third, "reordered")]
    with tampering():
        swap(first, other)
        assert {(of, number, problem) for of, number, problem in reported_problems() if problem == "reordered"} == {
            ("entry", first, "reordered"),
            ("entry", other, "reordered"),
        }


def test_an_inserted_entry_is_reported(links: list[tuple[Seal, list[int]]]) -> None:
    like = links[2][1][2]
    with tampering():
        run(
            "INSERT INTO fleet_audit.entry (id, at, cluster, xid, kind, outcome, actor, address, request, subject, data) "
            "OVERRIDING SYSTEM VALUE SELECT 1000000000, at, cluster, xid, kind, outcome, 'user:ann', address, request, "
            "subject, data FROM fleet_audit.entry WHERE id = %s",
            like,
        )
        assert reported_problems() == [("entry", 1_000_000_000, "inserted")]


def test_a_removed_seal_is_reported_and_the_others_are_still_verified(links: list[tuple[Seal, list[int]]]) -> None:
    removed_number, changed_id = links[1][0].number, links[3][1][0]
    with tampering():
        run("DELETE FROM fleet_audit.seal WHERE number = %s", removed_number)
        assert reported_problems() == [("seal", removed_number, "removed")]
        run("UPDATE fleet_audit.entry SET actor = 'user:eve' WHERE id = %s", changed_id)
        assert reported_problems() == [("seal", removed_number, "removed"), ("entry", changed_id, "changed")]


def test_removed_first_seals_are_reported(links: list[tuple[Seal, list[int]]]) -> None:
    with tampering():
        run("DELETE FROM fleet_audit.seal WHERE number < %s", links[1][0].number)
        assert reported_problems()[0] == ("seal", 1, "removed")


def test_entries_whose_last_seal_was_removed_are_reported(links: list[tuple[Seal, list[int]]]) -> None:
    seal, ids = links[-1]
    with tampering():
        run("DELETE FROM fleet_audit.seal WHERE number = %s", seal.number)
        assert reported_problems() == [("entry", id, "unsealed") for id in ids]


def test_a_changed_seal_is_reported(links: list[tuple[Seal, list[int]]]) -> None:
    number = links[2][0].number
    for change in (
        "at = at + interval '1 second'", "cluster = cluster + 1", "first_id = first_id + 1", "last_xid = last_xid + 1",
        "leaves = set_byte(leaves, 20, (get_byte(leaves, 20) + 1) % 256)", "count = 3", "digest = repeat('a', 64)",
        "leaves = substr(leaves, 41), count = 3", "number = 1000000",
    ):  # fmt: skip
        with tampering():
            run(f"UPDATE fleet_audit.seal SET {change} WHERE number = {number}")
            assert ("seal", number) in {(of, which) for of, which, _ in reported_problems()}, change


def test_a_new_seal_over_changed_entries_does_not_match_the_chain(links: list[tuple[Seal, list[int]]]) -> None:
    """Whoever knows the code can forge a matching seal, but then the next seal does not match."""
    seal, (first, *_) = links[2]
    with tampering():
        run("UPDATE fleet_audit.entry SET actor = 'user:eve' WHERE id = %s", first)
        rows = chain.rows(Entry.objects.filter(id__in=links[2][1]))
        seal.leaves = chain.pack_leaves([chain.leaf(row) for row in rows])
        run(
            "UPDATE fleet_audit.seal SET leaves = %s, digest = %s WHERE number = %s",
            seal.leaves, chain.digest(seal), seal.number,
        )  # fmt: skip
        assert reported_problems() == [("seal", seal.number + 1, "changed")]


def test_an_anchored_seal_must_still_exist(links: list[tuple[Seal, list[int]]]) -> None:
    seal, ids = links[-1]
    head = (seal.number, seal.digest)
    assert problems(heads=[head]) == []
    with tampering():  # removing the end of the chain leaves no trace in the chain itself
        run("DELETE FROM fleet_audit.seal WHERE number = %s", seal.number)
        run("DELETE FROM fleet_audit.entry WHERE id = ANY(%s)", ids)
        assert problems() == []
        assert [(problem.number, problem.problem) for problem in problems(heads=[head])] == [(seal.number, "removed")]
        write_entries(1)
        with connection.cursor() as cursor:
            cursor.execute("SELECT max(number) FROM fleet_audit.seal")
            assert cursor.fetchone() == (seal.number - 1,)
    assert [problem.problem for problem in problems(heads=[(seal.number, "0" * 64)])] == ["changed"]


def test_a_database_restored_in_another_cluster_continues_its_chain(
    links: list[tuple[Seal, list[int]]],
) -> None:
    """There, transaction numbers start again, so those of old entries seem to be in the future."""
    here, _ = sealing.cluster_and_time()
    old, new = write_entries(2), write_entries(3)  # the old cluster had not sealed everything
    with tampering():
        run("DELETE FROM fleet_audit.seal")
        run("UPDATE fleet_audit.entry SET cluster = 42, xid = xid + 1000000000 WHERE id < %s", new[0])
        until(all_sealed)
        clusters = list(Seal.objects.order_by("number").values_list("cluster", flat=True))
        assert clusters == sorted(clusters, key=[42, here].index)  # in any number of seals
        assert set(clusters) == {42, here}
        before = Seal.objects.filter(cluster=42).order_by("number").last()
        assert before is not None
        assert list(chain.unpack_leaves(bytes(before.leaves)))[-1].id == old[-1]
        assert problems() == []


COLUMNS = ("actor", "kind", "subject", "address", "request", "xid", "id", "at", "outcome")


@trying(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 19), st.integers(0, 19)), min_size=1, max_size=3))
def test_random_tampering_is_always_detected(
    links: list[tuple[Seal, list[int]]], actions: list[tuple[int, int, int]]
) -> None:
    ids = [id for _, four in links for id in four]
    numbers = [seal.number for seal, _ in links]
    with tampering():
        before = state()
        for action, item, other in actions:
            tamper(action, ids[item], ids[other], numbers[item % 5], numbers[other % 5])
        assert bool(problems()) == (state() != before)


def state() -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    seals = Seal.objects.order_by("number", "digest").values_list()
    return sorted(chain.rows(Entry.objects.all()), key=str), [(*row[:8], bytes(row[8]), *row[9:]) for row in seals]


def tamper(action: int, entry_number: int, other: int, seal: int, another: int) -> None:
    match action:
        case 0:
            run("DELETE FROM fleet_audit.entry WHERE id = %s", entry_number)
        case 1:
            column = COLUMNS[other % 5]
            run(f"UPDATE fleet_audit.entry SET {column} = left({column} || 'x', 60) WHERE id = {entry_number}")
        case 2:
            swap(entry_number, other)
        case 3:
            run("UPDATE fleet_audit.entry SET xid = xid + %s WHERE id = %s", other % 7 - 3, entry_number)
        case 4:
            run("DELETE FROM fleet_audit.seal WHERE number = %s", seal)
        case 5:
            run(
                "UPDATE fleet_audit.seal SET number = CASE number WHEN %s THEN %s ELSE %s END WHERE number IN (%s, %s)",
                seal, another, seal, seal, another,
            )  # fmt: skip
        case 6:
            run("UPDATE fleet_audit.seal SET last_id = last_id + 1, count = count + 1 WHERE number = %s", seal)
