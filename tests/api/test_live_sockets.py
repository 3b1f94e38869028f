"""WebSockets send the same events to pages of this site and to programs; tickets replace headers and are never logged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import Client as Browser
from django.utils import timezone
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from fleet.access import tokens
from fleet.events.models import Event
from fleet.live.models import Ticket
from missions import operations as missions
from tests.support import api
from tests.support.processes import live
from tests.support.processes.live import Listener, Web, bearer
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
PLACES = 12
FRIEND = "https://board.example.org"
ALL = "/ws/v1/events"


@pytest.fixture(scope="module")
def web(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Without Redis, which nothing here needs."""
    more = {
        "REDIS_URL": "redis://:none@127.0.0.1:1/0",
        "FLEET_LIVE_LISTENERS": str(PLACES),
        "FLEET_CORS_ORIGINS": FRIEND,
    }
    with live.serving(tmp_path_factory.mktemp("web"), {**live.environment(), **more}) as server:
        yield server


def open_socket(web: Web, path: str, *protocols: str, **headers: str) -> ClientConnection:
    origin = headers.pop("Origin", None)
    return connect(
        f"ws://127.0.0.1:{web.port}{path}",
        additional_headers=headers,
        origin=Origin(origin) if origin is not None else None,
        subprotocols=[Subprotocol(name) for name in protocols] or None,
        open_timeout=10,
        legacy=True,
    )


def receive_event(line: ClientConnection) -> dict[str, Any]:
    """The next event."""
    while True:
        document: dict[str, Any] = json.loads(line.recv(timeout=15))
        if "event" in document:
            return document


def close_reason(line: ClientConnection, *, within_s: float = 120) -> tuple[int, str]:
    """The code and the reason with which the server closes the socket."""
    with line:
        try:
            while True:
                line.recv(timeout=within_s)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


def close_code(line: ClientConnection, *, within_s: float = 120) -> int:
    return close_reason(line, within_s=within_s)[0]


def ticket(client: api.Client, path: str) -> str:
    response = client.post("tickets", {"path": path})
    assert response.status_code == 201
    assert response.json()["expires_in"] == 30
    return str(response.json()["ticket"])


def test_a_program_receives_events_with_cursors_and_resumes_from_one(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    path = f"/ws/v1/missions/{mission.ref}"
    with open_socket(web, path, **bearer(ann)) as line:
        for number in range(3):
            Event.objects.create(kind="sortie.running", scope=mission.id, data={"number": number})
        values = [receive_event(line) for _ in range(3)]
    assert [item["event"]["data"]["number"] for item in values] == [0, 1, 2]
    assert values[0]["event"]["mission"] == mission.ref
    Event.objects.create(kind="sortie.succeeded", scope=mission.id, data={"number": 3})
    with open_socket(web, f"{path}?cursor={values[0]['cursor']}", **bearer(ann)) as line:
        assert [receive_event(line)["event"]["data"]["number"] for _ in range(3)] == [1, 2, 3]
    with open_socket(web, path, **bearer(ann)) as line:
        line.send(json.dumps({"cursor": values[1]["cursor"]}))
        assert [receive_event(line)["event"]["data"]["number"] for _ in range(2)] == [2, 3]
        Event.objects.create(kind="sortie.failed", scope=mission.id, data={"number": 4})
        assert receive_event(line)["event"]["data"]["number"] == 4


@pytest.mark.parametrize("message", ["{", "[]", '{"cursor": "1-1", "more": 1}', '{"other": 1}', "[" * 3_000, b"\x00"])
def test_an_unknown_message_closes_the_socket(web: Web, message: str | bytes) -> None:
    line = open_socket(web, ALL, **bearer(api.person("ann")))
    line.send(message)
    assert close_code(line) == 4400


def test_a_cursor_is_sent_once_and_must_have_been_issued(web: Web) -> None:
    ann = api.person("ann")
    assert close_code(open_socket(web, f"{ALL}?cursor=nonsense", **bearer(ann))) == 4422
    line = open_socket(web, ALL, **bearer(ann))
    line.send('{"cursor": "nonsense"}')
    assert close_code(line) == 4422


def test_a_refused_caller_gets_a_close_code(web: Web) -> None:
    ann, eve = api.person("ann"), api.person("eve")
    path = f"/ws/v1/missions/{live.mission_of(ann.user).ref}"
    assert close_code(open_socket(web, path)) == 4401
    assert close_code(open_socket(web, path, Authorization="Bearer flk_00000000_nothing")) == 4401
    assert close_code(open_socket(web, path, **bearer(eve))) == 4404
    assert close_code(open_socket(web, ALL, **bearer(api.machine(ann.user, "launch")))) == 4403
    for absent in ("/ws/v1/nothing", "/ws/v1/missions/../events", "/"):
        with pytest.raises(InvalidStatus) as excinfo:
            open_socket(web, absent, **bearer(ann))
        assert excinfo.value.response.status_code == 403


def test_the_close_reason_is_a_sentence(web: Web) -> None:
    ann = api.person("ann")
    missing_path = "/ws/v1/missions/msn_" + "0" * 26
    assert close_reason(open_socket(web, missing_path, **bearer(ann))) == (4404, f"There is no mission msn_{'0' * 26}.")
    assert close_reason(open_socket(web, f"{ALL}?cursor=x", **bearer(ann))) == (
        4422, "Unknown cursor. Start without a cursor.",
    )  # fmt: skip
    assert close_reason(open_socket(web, f"{ALL}?foo=1", **bearer(ann))) == (
        4404, "Unknown parameter 'foo'. The only one is `cursor`.",
    )  # fmt: skip
    status, why = close_reason(open_socket(web, ALL, Authorization="Bearer flk_00000000_nothing"))
    assert (status, why.startswith("Unknown machine key.")) == (4401, True)


def test_an_invalid_url_is_not_reported_as_an_invalid_cursor(web: Web) -> None:
    ann = api.person("ann")
    status, why = close_reason(open_socket(web, "/ws/v1/missions/xx", **bearer(ann)))
    assert (status, why) == (4404, "'xx' is not the id of a mission. Such an id looks like msn_01j….")
    assert close_code(open_socket(web, f"{ALL}?other=1", **bearer(ann))) == 4404


def test_one_user_gets_at_most_a_quarter_of_the_streams(web: Web) -> None:
    ann, eve = api.person("ann"), api.person("eve")
    lines = [open_socket(web, ALL, **bearer(ann)) for _ in range(PLACES // 4)]
    for line in lines:
        line.send('{"cursor": "1-1"}')  # the answer shows that it is listening
    until(lambda: close_code(open_socket(web, ALL, **bearer(ann))) == 4429)
    open_socket(web, ALL, **bearer(eve)).close()
    for line in lines:
        line.close()
    until(lambda: Listener(web, "/api/v1/events/stream", **bearer(ann)).status == 200)


def test_the_socket_closes_when_the_session_ends(web: Web) -> None:
    ann = api.person("ann")
    line = open_socket(web, ALL, **bearer(ann))
    tokens.end(user=ann.user)
    assert close_code(line) == 4401


def test_other_origins_are_refused_and_trusted_ones_cannot_use_cookies(web: Web) -> None:
    ann = api.person("ann")
    silent = open_socket(web, ALL, "fleet.v1", Origin=FRIEND)
    browser = Browser()
    browser.force_login(ann.user)
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"}
    own = f"http://127.0.0.1:{web.port}"
    for other in (
        "https://evil.example.com",
        f"http://127.0.0.1:{web.port + 1}",
        "null",
        "file://",
        f"{own}.evil.com",
        "",
    ):
        with pytest.raises(InvalidStatus) as excinfo:
            open_socket(web, ALL, Origin=other, **cookie)
        assert excinfo.value.response.status_code == 403
    with pytest.raises(InvalidStatus):
        connect(f"ws://localhost:{web.port}{ALL}", additional_headers={"Host": "evil.example.com", **bearer(ann)})
    mission = live.mission_of(ann.user)
    with open_socket(web, ALL, Origin=own, **cookie) as line:
        Event.objects.create(kind="sortie.failed", scope=mission.id)
        while receive_event(line)["event"]["kind"] != "sortie.failed":
            pass
        browser.logout()
        assert close_code(line) == 4401
    browser.force_login(ann.user)
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"}
    assert close_code(open_socket(web, ALL, Origin=FRIEND, **cookie)) == 4401
    assert close_code(silent) == 4401  # no ticket was sent
    open_socket(web, ALL, "fleet.v1", f"fleet.ticket.{ticket(ann, ALL)}", Origin=FRIEND).close()


def test_a_ticket_opens_one_stream_once_and_its_owners_access_is_rechecked(web: Web) -> None:
    ann = api.person("ann")
    document = ticket(ann, ALL)
    assert not Ticket.objects.filter(digest__contains=document[4:20]).exists()
    line = open_socket(web, ALL, "fleet.v1", f"fleet.ticket.{document}")
    assert line.subprotocol == "fleet.v1"
    assert close_code(open_socket(web, ALL, f"fleet.ticket.{document}")) == 4401
    other = ticket(ann, "/ws/v1/missions/" + live.mission_of(ann.user).ref)
    assert close_code(open_socket(web, ALL, f"fleet.ticket.{other}")) == 4401
    assert not Ticket.objects.exists()
    old = ticket(ann, ALL)
    Ticket.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert close_code(open_socket(web, ALL, f"fleet.ticket.{old}")) == 4401
    tokens.end(user=ann.user)
    assert close_code(line) == 4401


def test_a_ticket_may_be_sent_as_a_message(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    path = f"/ws/v1/missions/{mission.ref}"
    document = ticket(ann, path)
    with open_socket(web, path, "fleet.v1", Origin=FRIEND) as line:
        line.send(json.dumps({"ticket": document}))
        line.send('{"cursor": "1-1"}')
        Event.objects.create(kind="sortie.failed", scope=mission.id)
        while receive_event(line)["event"]["kind"] != "sortie.failed":
            pass
        line.send('{"cursor": "1-1"}')
        assert close_code(line) == 4400
    for value, why in (
        (json.dumps({"ticket": document}), 4401),  # used
        (json.dumps({"ticket": ticket(ann, ALL)}), 4401),  # issued for another path
        (json.dumps({"ticket": ticket(ann, path), "more": 1}), 4400),
        ('{"cursor": "1-1"}', 4400),
        ('{"ticket": ""}', 4400),
        ("{", 4400),
    ):
        line = open_socket(web, path, "fleet.v1")
        line.send(value)
        assert close_code(line) == why, value
    assert document not in web.log_text


def test_server_sent_events_accept_a_ticket_in_the_url_for_that_url_only(web: Web) -> None:
    ann = api.person("ann")
    stream = "/api/v1/events/stream"
    document = ticket(ann, stream)
    with Listener(web, f"{stream}?ticket={document}") as first:
        assert first.status == 200
    assert Listener(web, f"{stream}?ticket={document}").status == 401
    assert Listener(web, f"{stream}?ticket={ticket(ann, ALL)}").status == 401
    assert (
        close_code(open_socket(web, f"{ALL}?ticket={ticket(ann, ALL)}")) == 4401
    )  # a WebSocket takes no ticket from its URL
    for path in ("/api/v1/missions", "https://evil.example.com/ws/v1/events", "/ws/v1/events?x=1", "/admin/"):
        assert ann.post("tickets", {"path": path}).status_code == 422
    assert api.machine(ann.user, "launch").post("tickets", {"path": ALL}).status_code == 403
    assert api.anonymous().post("tickets", {"path": ALL}).status_code == 401


def test_tickets_and_tokens_are_not_logged(web: Web) -> None:
    ann = api.person("ann")
    texts = [ann.bearer, ticket(ann, ALL), ticket(ann, ALL), ticket(ann, "/api/v1/events/stream"), "tkt_nonsense"]
    open_socket(web, ALL, **bearer(ann)).close()
    open_socket(web, ALL, f"fleet.ticket.{texts[1]}").close()
    assert close_code(open_socket(web, f"{ALL}?ticket={texts[2]}")) == 4401
    for text in texts[3:]:
        with Listener(web, f"/api/v1/events/stream?ticket={text}"):
            pass
        with Listener(web, f"/api/v1/events/stream?a=1&ticket={text}&b=2"):
            pass
    until(lambda: ALL in web.log_text)
    assert not [text for text in texts if text in web.log_text]
    assert "Traceback" not in web.log_text


def test_opening_a_socket_counts_against_the_concurrency_limit(tmp_path: Path) -> None:
    ann = api.person("ann")
    turns = {**live.environment(), "FLEET_WEB_CONCURRENCY": "1", "FLEET_WEB_QUEUE": "0"}
    with live.serving(tmp_path, turns) as web, ThreadPoolExecutor(1) as threads:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {Event._meta.db_table} IN ACCESS EXCLUSIVE MODE")
            request = threads.submit(web.request, "GET", "/api/v1/events", **bearer(ann))

            def worked_on() -> bool:
                cursor.execute(
                    "SELECT 1 FROM pg_locks WHERE relation = %s::regclass AND NOT granted", [Event._meta.db_table]
                )
                return cursor.fetchone() is not None

            until(worked_on)
            assert close_reason(open_socket(web, ALL, **bearer(ann))) == (1013, "The server is busy. Retry shortly.")
        assert request.result()[0] == 200
        with open_socket(web, ALL, **bearer(ann)) as line:
            line.ping().wait(10)


def test_a_socket_of_a_mission_reports_its_end_and_closes(web: Web) -> None:
    ann = api.person("ann")
    mission = live.mission_of(ann.user)
    with open_socket(web, f"/ws/v1/missions/{mission.ref}", **bearer(ann)) as line:
        missions.cancel(mission=mission.id)
        document = [json.loads(text) for text in line]  # until the close is complete
        assert line.close_code == 1000
    assert document[-1]["end"] == {"code": 1000, "state": "cancelled", "why": "It has ended: cancelled."}
    keys = {item["event"]["kind"]: item["event"]["key"] for item in document if "event" in item}
    assert (keys["sortie.cancelled"], keys["mission.cancelled"]) == ("one", None)
