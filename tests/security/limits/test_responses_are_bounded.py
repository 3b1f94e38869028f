"""No request fills the memory of the web process with its response, nor do clients that do not read theirs."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from fleet.access.models import Role
from missions.api import missions as views
from missions.models import Attempt, Conflict, Mission, Output, Sortie
from missions.queries import sortie_json
from missions.workspaces import conflicts
from tests.support import api, fleet
from tests.support.processes import live

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_page_of_sorties_ends_before_its_results_fill_the_memory() -> None:
    """200 results of 1 MB, parsed, would take 40 s and 5 GB."""
    boss = api.person("boss", Role.ADMIN)
    mission = fleet.launch({"big": {"matrix": {"n": [1, 2, 3]}}, "small": {}})
    result = "x" * (sortie_json.MAX_PAGE_BYTES * 2 // 3)
    for sortie in Sortie.objects.filter(mission=mission).order_by("turn", "id"):
        Attempt.objects.create(
            sortie=sortie, number=1, state="succeeded", result=result if "big" in sortie.key else None
        )
    Sortie.objects.update(state="succeeded", attempt=1, started_at=mission.created_at, finished_at=mission.created_at)
    path: str | None = f"missions/{mission.ref}/sorties?limit=200"
    pages = []
    while path:
        page = boss.get(path).json()
        pages.append([item["key"] for item in page["results"]])
        path = page["next"]
    assert pages == [["big[n=1]"], ["big[n=2]"], ["big[n=3]", "small"]]
    assert len(boss.get(f"missions/{mission.ref}/sorties?results=false").json()["results"]) == 4


def test_the_edges_of_a_graph_are_bounded() -> None:
    """200,000 needs between sorties with long keys would be 80 MB."""
    boss = api.person("boss", Role.ADMIN)
    matrix = {"n": [f"{n:090}" for n in range(105)], "m": ["y" * 90]}
    mission = fleet.launch({"a": {"matrix": matrix}, "b": {"matrix": matrix, "needs": ["a"]}})
    response = boss.get(f"missions/{mission.ref}/graph")
    graph = response.json()
    assert (len(graph["nodes"]), graph["truncated"]) == (210, True)
    assert 10_000 < len(graph["edges"]) < 105 * 105
    assert len(response.content) < 1.5 * views.MAX_EDGE_BYTES
    small = fleet.launch({"a": {}, "b": {"needs": ["a"]}})
    graph = boss.get(f"missions/{small.ref}/graph").json()
    assert (graph["edges"], graph["truncated"]) == ([{"upstream": "a", "sortie": "b"}], False)


def test_the_output_of_a_mission_comes_in_bounded_responses() -> None:
    boss = api.person("boss", Role.ADMIN)
    mission = _with_output(fleet.launch({"one": {}}), *("x" * (views.MAX_OUTPUT_BYTES // 2) for _ in range(5)))
    pieces, after, ended = [], 0, False
    while not ended:
        part = boss.get(f"missions/{mission.ref}/logs?after={after}").json()
        pieces.append(len(part["pieces"]))
        after, ended = part["after"], part["ended"]
    assert pieces == [3, 2]


def test_a_conflict_does_not_list_all_files_with_long_paths() -> None:
    """A page with 200 conflicts would be 80 MB."""
    mission = fleet.launch({"one": {}})
    sortie = Sortie.objects.get(mission=mission)
    conflict = conflicts.record(
        sortie=sortie.id,
        mission=mission.id,
        attempt=1,
        kind=Conflict.Kind.MERGE,
        outcome=Conflict.Outcome.REWORK,
        files=[f"{n:04}/{'x' * 4_000}" for n in range(100)],
    )
    assert [path[:4] for path in conflict.files] == ["0000", "0001", "0002", "0003"]


def test_what_clients_of_one_address_do_not_read_is_bounded(tmp_path: Path) -> None:
    """A few hundred clients that read a byte now and then would fill the memory with responses."""
    boss = api.person("boss", Role.ADMIN)
    size = 12_000_000  # each character is escaped, with five more
    mission = _with_output(fleet.launch({"one": {}}), "\1" * (size // 6))
    head = f"GET /api/v1/missions/{mission.ref}/logs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {boss.bearer}\r\n\r\n"
    with live.serving(tmp_path, live.environment()) as web, contextlib.ExitStack() as clients:

        def request() -> socket.socket:
            client = clients.enter_context(socket.create_connection(("127.0.0.1", web.port)))
            client.sendall(head.encode())
            return client

        lines = [request() for _ in range(10)]
        statuses = [line.recv(12) for line in lines]
        assert b"HTTP/1.1 200" in statuses
        assert b"HTTP/1.1 429" in statuses
        for line in lines:
            line.close()
        after = request()
        while after.recv(12) == b"HTTP/1.1 429":  # until the process has noticed
            after = request()
        while size > 0 and (part := len(after.recv(1_000_000))):
            size -= part
        assert size <= 0


def _with_output(mission: Mission, *texts: str) -> Mission:
    sortie = Sortie.objects.get(mission=mission)
    Sortie.objects.filter(id=sortie.id).update(state="failed", attempt=1, finished_at=mission.created_at)
    for text in texts:
        Output.objects.create(sortie=sortie, attempt=1, stream="stdout", text=text)
    return mission
