"""Server-sent events: none is missed, repeated or sent to a caller who may not see it.

A slow listener delays no other.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from fleet.access import operations, tokens
from fleet.access.models import Role
from fleet.events import stream
from fleet.events.models import Event
from missions import operations as missions
from missions.models import Mission
from tests.support import api, fleet
from tests.support.processes import live
from tests.support.processes.live import Listener, Web, bearer, run_concurrently
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
ALL = "/api/v1/events/stream"


@pytest.fixture(scope="module")
def web(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with live.serving(tmp_path_factory.mktemp("web"), live.environment()) as server:
        yield server


def stream_of(mission: Mission) -> str:
    return f"/api/v1/missions/{mission.ref}/events/stream"


def write_event(mission: Mission | None, kind: str, **data: Any) -> None:
    Event.objects.create(kind=kind, scope=mission.id if mission else None, data=data)


def test_a_stream_sends_the_events_that_the_list_of_events_shows(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    with Listener(web, stream_of(mission), **bearer(ann)) as listener:
        assert listener.status == 200
        assert listener.headers["content-type"].startswith("text/event-stream")
        assert listener.headers["x-accel-buffering"] == "no"
        assert "no-store" in listener.headers["cache-control"]
        assert "content-length" not in listener.headers
        write_event(mission, "sortie.running", attempt=1)
        write_event(None, "service.slow")
        write_event(live.mission_of(ann.user), "sortie.failed")
        write_event(mission, "sortie.succeeded")
        assert listener.wait_for_events(2) == ["sortie.running", "sortie.succeeded"]
        newest = ann.get(f"missions/{mission.ref}/events").json()["results"][:2]
        assert [data for _, _, data in reversed(listener.events)] == newest


def test_no_event_is_missed_or_repeated_when_commits_are_out_of_order(web: Web) -> None:
    """Listeners reconnect meanwhile, each with the id of its last event."""
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    writers, each = 6, 25

    def write(number: int) -> None:
        chance = random.Random(number)
        for turn in range(each):
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_current_xact_id()")
                time.sleep(chance.random() * 0.02)
                write_event(mission, "sortie.running", who=number, turn=turn)
                time.sleep(chance.random() * 0.03)

    received_numbers: list[str] = []

    def listen() -> None:
        last: dict[str, str] = {}
        while len(received_numbers) < writers * each and time.monotonic() < deadline:
            with Listener(web, stream_of(mission), **bearer(ann), **last) as item:
                first = item.last_id
                while len(item.events) < 20 and len(received_numbers) + len(item.events) < writers * each:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.005)
            received_numbers.extend(f"{data['data']['who']}.{data['data']['turn']}" for _, _, data in item.events)
            last = {"Last_Event_ID": item.last_id or first}

    deadline = time.monotonic() + 30
    with Listener(web, stream_of(mission), **bearer(ann)) as full_listener:
        start = full_listener.last_id
        with Listener(web, ALL, **bearer(ann)) as all_listener:
            run_concurrently(listen, *(lambda number=number: write(number) for number in range(writers)))
            full_listener.wait_for_events(writers * each)
            all_listener.wait_for_events(writers * each)
    expected = sorted(f"{who}.{turn}" for who in range(writers) for turn in range(each))
    for item in (full_listener, all_listener):
        assert sorted(f"{data['data']['who']}.{data['data']['turn']}" for _, _, data in item.events) == expected
    with Listener(web, f"{stream_of(mission)}?last_event_id={start}", **bearer(ann)) as second_listener:
        second_listener.wait_for_events(writers * each)
        assert second_listener.events == full_listener.events
    assert len(received_numbers) == len(set(received_numbers))
    assert set(received_numbers) <= set(expected)


def test_a_late_listener_may_start_with_the_first_event(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    launched = ann.get(f"missions/{mission.ref}/events?ordering=id").json()["results"]
    assert launched
    with Listener(web, stream_of(mission), **bearer(ann), Last_Event_ID="0-0") as full_listener:
        write_event(mission, "sortie.running")
        full_listener.wait_for_events(len(launched) + 1)
    assert [data for _, _, data in full_listener.events[:-1]] == launched
    assert full_listener.kinds[-1] == "sortie.running"


def test_a_listener_that_reconnects_gets_the_missed_events_first(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    with Listener(web, stream_of(mission), **bearer(ann)) as first:
        write_event(mission, "sortie.running")
        first.wait_for_events(1)
    for number in range(1_200):  # more than a page of the table
        Event.objects.create(kind="sortie.waiting", scope=mission.id, data={"number": number})
    with Listener(web, stream_of(mission), **bearer(ann), Last_Event_ID=first.last_id) as second:
        second.wait_for_events(1_200)
        write_event(mission, "sortie.succeeded")
        second.wait_for_events(1_201)
    assert [data["data"].get("number") for _, _, data in second.events] == [*range(1_200), None]


@pytest.mark.parametrize("cursor", ["x", "1", "-1-2", "999999999999999999-1", "1-2-3", "1" * 30 + "-1"])
def test_an_invalid_cursor_is_refused(web: Web, cursor: str) -> None:
    ann = api.person("ann")
    status, headers, body = web.request("GET", ALL, Last_Event_ID=cursor, Accept="text/event-stream", **bearer(ann))
    assert status == 422
    assert headers["content-type"] == "application/problem+json"
    assert b"cursor" in body


def test_each_listener_gets_the_events_that_it_may_see(web: Web) -> None:
    ann, bob, eve = api.person("ann", teams=["web"]), api.person("bob", teams=["web"]), api.person("eve")
    boss = api.person("boss", Role.ADMIN)
    team = ann.user.groups.get()
    with (
        Listener(web, ALL, **bearer(ann)) as anns, Listener(web, ALL, **bearer(bob)) as bobs,
        Listener(web, ALL, **bearer(eve)) as eves, Listener(web, ALL, **bearer(boss)) as all,
    ):  # fmt: skip
        count = len(all.kinds)
        own, shared, other = live.mission_of(ann.user), live.mission_of(ann.user, team), live.mission_of(eve.user)
        until(lambda: len(all.kinds) > count)
        write_event(None, "x.service")
        write_event(own, "x.own")
        write_event(shared, "x.shared")
        write_event(other, "x.other")

        def of(listener: Listener) -> set[str]:
            return {kind for kind in listener.kinds if kind.startswith("x.")}

        until(lambda: of(all) == {"x.service", "x.own", "x.shared", "x.other"})
        until(lambda: of(anns) == {"x.own", "x.shared"} and of(bobs) == {"x.shared"} and of(eves) == {"x.other"})
    assert Listener(web, stream_of(own), **bearer(bob)).status == 404
    assert Listener(web, stream_of(shared), **bearer(bob)).status == 200
    assert Listener(web, stream_of(own)).status == 401
    assert Listener(web, ALL, **bearer(api.machine(ann.user, "launch"))).status == 403


def test_a_stream_ends_soon_after_access_is_revoked(web: Web) -> None:
    ann, bob = api.person("ann", teams=["web"]), api.person("bob", teams=["web"])
    cut_off_user, signed_out_user, other_user = api.person("cut"), api.person("gone"), api.person("kept")
    machine = api.machine(other_user.user, "read")
    shared = live.mission_of(ann.user, ann.user.groups.get())
    with (
        Listener(web, stream_of(shared), **bearer(bob)) as bobs, Listener(web, stream_of(shared), **bearer(ann)) as anns,
        Listener(web, ALL, **bearer(cut_off_user)) as session, Listener(web, ALL, **bearer(signed_out_user)) as disabled,
        Listener(web, ALL, **bearer(machine)) as key, Listener(web, ALL, **bearer(other_user)) as theirs,
    ):  # fmt: skip
        assert {client.status for client in (bobs, anns, session, disabled, key, theirs)} == {200}
        Mission.objects.filter(id=shared.id).update(team=None)
        tokens.end(user=cut_off_user.user)
        operations.set_active(user=signed_out_user.user, active=False)
        operations.revoke_key(key=other_user.user.machine_keys.get())
        for item in (bobs, session, disabled, key):
            assert item.ended.wait(30)
        assert not anns.ended.is_set()
        assert not theirs.ended.is_set()
    for client, path in ((bob, stream_of(shared)), (cut_off_user, ALL), (signed_out_user, ALL), (machine, ALL)):
        assert Listener(web, path, **bearer(client)).status in {401, 404}


def test_a_slow_listener_delays_nobody_and_misses_nothing(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    with socket.create_connection(("127.0.0.1", web.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.sendall(
            f"GET {stream_of(mission)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ann.bearer}\r\n\r\n".encode()
        )
        assert slow.recv(300).startswith(b"HTTP/1.1 200")
        with Listener(web, stream_of(mission), **bearer(ann)) as quick:
            text = "x" * 3_000
            for begin in range(0, 4_000, 500):
                Event.objects.bulk_create(
                    Event(kind="sortie.waiting", scope=mission.id, data={"number": number, "text": text})
                    for number in range(begin, begin + 500)
                )
                assert [data["data"]["number"] for _, _, data in quick.events] == list(range(len(quick.events)))
            quick.wait_for_events(4_000)
        slow.settimeout(10)
        received, end = bytearray(), b""
        while b'"number":3999}' not in end:
            more = slow.recv(1_000_000)
            assert more
            received += more
            end = bytes(received[-len(more) - 20 :])
    numbers = [int(part.split(b"}", 1)[0]) for part in bytes(received).split(b'"number":')[1:]]
    assert numbers == list(range(4_000))


def last_event(listener: Listener) -> dict[str, Any]:
    assert listener.ended.wait(60)
    assert listener.kinds[-1] == "end"
    return listener.events[-1][2]


def test_the_stream_of_a_mission_ends_with_it_and_its_events_name_their_sortie(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    with Listener(web, stream_of(mission), **bearer(ann)) as listener:
        engine = fleet.engine()
        assert fleet.run_to_end(engine, mission) == "succeeded"
        engine.stop(within_s=5)
        assert last_event(listener) == {"code": 1000, "state": "succeeded", "why": "It has ended: succeeded."}
    assert listener.kinds[-2] == "mission.succeeded"
    keys = {kind: data["key"] for _, kind, data in listener.events[:-1]}
    assert (keys["sortie.running"], keys["mission.succeeded"]) == ("one", None)


def test_a_listener_after_the_end_gets_the_history_or_only_the_end(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    missions.cancel(mission=mission.id)
    with Listener(web, stream_of(mission), **bearer(ann), Last_Event_ID="0-0") as full_listener:
        assert last_event(full_listener)["state"] == "cancelled"
        assert "mission.cancelled" in full_listener.kinds
    until(lambda: stream.snapshot().position.xid > Event.objects.latest("xid").xid)
    for last in ({}, {"Last_Event_ID": full_listener.last_id}):
        with Listener(web, stream_of(mission), **bearer(ann), **last) as second_listener:
            assert last_event(second_listener)["state"] == "cancelled"
            assert second_listener.kinds == ["end"]


def test_a_reopened_mission_is_followed_beyond_its_first_end(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    missions.cancel(mission=mission.id)
    missions.retry(mission=mission.id, can_execute=True)
    with Listener(web, stream_of(mission), **bearer(ann), Last_Event_ID="0-0") as listener:
        until(lambda: "mission.running" in listener.kinds)
        assert listener.kinds.count("mission.cancelled") == 1
        assert not listener.ended.wait(1)
        missions.cancel(mission=mission.id)
        last_event(listener)
    assert listener.kinds.count("mission.cancelled") == 2
