"""The admin shows workspaces, changes and conflicts, with their diffs, and how a conflict is resolved."""

from __future__ import annotations

import html
import shlex

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from missions.admin import work
from missions.models import Change, Conflict, Mission, Reservation, Sortie
from tests.support import fleet, web
from tests.support.console import manage
from tests.support.repository import Repository
from tests.support.work import conflicting

pytestmark = pytest.mark.django_db(transaction=True)


def page(name: str, *, row: object = None, query: str = "") -> str:
    client = web.superuser() if not User.objects.filter(username="boss").exists() else _boss()
    address = reverse(f"admin:{name}_changelist") if row is None else reverse(f"admin:{name}_change", args=[row])
    response = client.get(address + query)
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def _boss() -> Client:
    client = Client()
    client.force_login(User.objects.get(username="boss"))
    return client


def link(name: str, row: object) -> str:
    return f'href="{reverse(f"admin:{name}_change", args=[row])}"'


def test_a_mission_shows_its_branch_and_diff(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="sed -i s/two/agent/ app.py; echo '<b>bold</b>' > new.html")
    content = page("missions_mission", row=mission.id)
    assert link("missions_workspace", mission.id) in content
    assert f"{project.path}, from main (" in content
    assert '<span style="color: #16a34a">+agent</span>' in content
    raw = _boss().get(reverse("admin:missions_mission_change", args=[mission.id])).content.decode()
    assert "+&lt;b&gt;bold&lt;/b&gt;" in raw


def test_a_sortie_shows_its_change_conflict_and_the_command_that_resolves_it(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    late = Sortie.objects.get(mission=mission, key="late")
    content = page("missions_sortie", row=late.id)
    assert link("missions_change", Change.objects.get(sortie=late).id) in content
    assert link("missions_conflict", Conflict.objects.get(sortie=late).id) in content
    assert "1 file (+1 −1)" in content
    assert "+late</span>" in content
    command = content.partition("Resolve it: <code>")[2].partition("</code>")[0]
    arguments = shlex.split(command)
    assert manage("fleet_mission", *arguments[arguments.index("fleet_mission") + 1 :]).code == 0
    assert "Resolve it" not in page("missions_sortie", row=late.id)


def test_a_conflict_links_to_its_sortie_and_mission(project: Repository) -> None:
    mission = conflicting.waiting_for_a_person(project)
    conflict = Conflict.objects.get(sortie__mission=mission)
    content = page("missions_conflict", row=conflict.id)
    assert link("missions_sortie", conflict.sortie_id) in content
    assert link("missions_mission", mission.id) in content
    assert f"fleet_mission resolve {mission.ref} late --retry" in content
    text = page("missions_conflict", query=f"?q={mission.ref}")
    assert "waits for a person" in text
    assert "app.py" in text


def test_changes_and_workspaces_are_listed_and_found_by_the_id_of_their_mission(project: Repository) -> None:
    mission, other = conflicting.landed_mission(project), conflicting.landed_mission(project)
    change, foreign = Change.objects.get(sortie__mission=mission), Change.objects.get(sortie__mission=other)
    text = page("missions_change", query=f"?q={mission.ref}")
    assert change.commit[:12] in text
    assert foreign.commit[:12] not in text
    assert "+new</span>" in page("missions_change", row=change.id)
    text = page("missions_workspace", query=f"?q={mission.ref}")
    assert mission.ref in text
    assert other.ref not in text
    assert "+new</span>" in page("missions_workspace", row=mission.id)


def test_pages_of_missions_without_a_repository_do_not_mention_one() -> None:
    mission = fleet.launch({"edit": {}})
    assert "Work on the repository" not in page("missions_mission", row=mission.id)
    assert "Work on the repository" not in page("missions_sortie", row=Sortie.objects.get(mission=mission).id)


def test_the_diff_of_a_page_is_computed_once(project: Repository) -> None:
    """A page asks for the value of each field several times, and the diff of a hostile change takes seconds."""
    mission = conflicting.landed_mission(project)
    change = Change.objects.get(sortie__mission=mission)
    assert work.diff_of_mission(mission) is work.diff_of_mission(mission)
    assert work.diff_of_sortie(change.sortie) is work.diff_of_sortie(change.sortie)
    assert work.diff_of_change(change) is work.diff_of_change(change)


def test_a_diff_that_cannot_be_read_is_explained(project: Repository) -> None:
    mission = conflicting.landed_mission(project)
    manage("fleet_mission", "discard", mission.ref, "--yes")
    for name, row in (
        ("missions_mission", mission.id),
        ("missions_workspace", mission.id),
        ("missions_change", Change.objects.get(sortie__mission=mission).id),
    ):
        assert "The work of this mission has been discarded." in page(name, row=row)


def test_a_long_diff_is_cut_off_and_names_the_command_for_all_of_it(project: Repository) -> None:
    mission = conflicting.landed_mission(project, run="seq 1 9000 > numbers.txt")
    content = page("missions_mission", row=mission.id)
    assert "+1900</span>" in content
    assert "+8000</span>" not in content
    assert f"fleet_mission diff {mission.ref}" in content


def test_lists_need_no_more_queries_for_many_rows(project: Repository) -> None:
    def queries(name: str) -> int:
        with CaptureQueriesContext(connection) as captured_queries:
            page(name)
        return len(captured_queries)

    missions: list[Mission] = [conflicting.waiting_for_a_person(project)]
    names = ("missions_workspace", "missions_change", "missions_conflict")
    page(names[0])
    before = [queries(name) for name in names]
    missions += [conflicting.waiting_for_a_person(project) for _ in range(2)]
    assert [queries(name) for name in names] == before


def test_a_reservation_is_shown_with_its_state_and_can_be_released(project: Repository) -> None:
    mission = fleet.launch(
        {"docs": {"touches": ["docs/**"]}, "check": {"reads": ["src"]}}, workspace={"repository": str(project.path)}
    )
    row = Reservation.objects.get(pattern="docs/**")
    text = page("missions_reservation", query=f"?q={mission.ref}")
    assert "docs/**" in text
    assert "waiting" in text
    content = page("missions_reservation", row=row.id)
    assert link("missions_sortie", row.sortie_id) in content
    assert "Release" in content
    body = {"action": "release", "_selected_action": [str(row.id)], "confirmed": "yes"}
    _boss().post(reverse("admin:missions_reservation_changelist"), body)
    row.refresh_from_db()
    assert row.released_at is not None
    assert "Release</" not in page("missions_reservation", row=row.id)
