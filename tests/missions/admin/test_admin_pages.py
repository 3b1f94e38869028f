"""The admin shows rows as they are and prevents manual edits. The number of queries does not depend on that of rows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents import operations as agents
from agents.models import Agent
from checkpoints import operations as checkpoints
from fleet import ids
from missions import operations
from missions.engine.process.runtime import Engine
from missions.models import Alert, Artifact, Attempt, Mission, Output, Sortie
from missions.operations import external_agents
from tests.support import artifacts, fleet, web
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

READ_ONLY = ("missions_mission", "missions_sortie", "missions_attempt", "missions_artifact", "missions_alert",
             "missions_schedule", "missions_workspace", "missions_change", "missions_conflict", "checkpoints_checkpoint",
             "agents_agent", "agents_node", "fleet_event", "fleet_entry", "fleet_key", "fleet_session")  # fmt: skip
LISTS = (*READ_ONLY, "missions_concurrencykey", "agents_agenttype", "auth_user", "auth_group")

STOCK = """
import django, sys; from django.conf import settings
settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if not name.startswith("unfold")]
settings.ALLOWED_HOSTS = ["*"]
django.setup()
from django.contrib.auth.models import User; from django.core import checks; from django.test import Client
client = Client(); client.force_login(User.objects.get(username="boss"))
assert not checks.run_checks()
for url in sys.argv[1:]:
    page = client.get(url)
    assert b"unfold" not in page.content
    print(page.status_code)
"""


@pytest.fixture
def ended_mission() -> Mission:
    return web.ended_mission()


def address(page: str, *, row: object = None) -> str:
    return reverse(f"admin:{page}_changelist") if row is None else reverse(f"admin:{page}_change", args=[row])


@pytest.mark.parametrize("page", READ_ONLY)
def test_rows_cannot_be_edited_by_hand(ended_mission: Mission, page: str) -> None:
    boss = web.superuser()
    assert boss.get(reverse(f"admin:{page}_add")).status_code == 403
    assert "delete_selected" not in boss.get(address(page)).content.decode()


def test_a_mission_cannot_be_changed_or_deleted_by_hand(ended_mission: Mission) -> None:
    boss = web.superuser()
    assert boss.post(address("missions_mission", row=ended_mission.id), {"state": "succeeded"}).status_code == 403
    assert (
        boss.post(reverse("admin:missions_mission_delete", args=[ended_mission.id]), {"post": "yes"}).status_code == 403
    )
    assert fleet.state(ended_mission.id) == "failed"


def test_a_mission_links_to_its_sorties_and_these_to_attempts_and_output(ended_mission: Mission) -> None:
    boss = web.superuser()
    bad = Sortie.objects.get(key="bad")
    attempt = Attempt.objects.get(sortie=bad)
    Output.objects.create(sortie=bad, attempt=1, stream="stdout", text="<b>last words</b>")
    artifact = artifacts.add(Sortie.objects.get(key="good"), path="report.html", content=b"x")

    mission = boss.get(address("missions_mission", row=ended_mission.id)).content.decode()
    assert "3 of 3: 1 succeeded, 1 failed, 1 skipped" in mission
    assert "It was skipped because bad did not succeed." in mission
    assert ended_mission.created_at.strftime("%b %Y, %H:%M:%S") in mission
    assert '<link rel="icon" href="data:,"' in mission  # otherwise browsers request /favicon.ico, which does not exist
    assert address("missions_sortie", row=bad.id) in mission
    assert reverse("artifact", args=[artifact.ref]) in mission
    sortie = boss.get(address("missions_sortie", row=bad.id)).content.decode()
    assert address("missions_attempt", row=attempt.id) in sortie
    page = boss.get(address("missions_attempt", row=attempt.id)).content.decode()
    assert "it broke" in page
    assert "&lt;b&gt;last words&lt;/b&gt;" in page
    assert boss.get(address("missions_artifact", row=artifact.id)).status_code == 200


def test_lists_linked_from_a_mission_contain_only_its_rows(ended_mission: Mission) -> None:
    boss = web.superuser()
    other = fleet.launch({"elsewhere": {}})
    page = boss.get(address("missions_mission", row=ended_mission.id)).content.decode()
    links = [
        address(name) + f"?q={ended_mission.ref}" for name in ("missions_attempt", "missions_artifact", "fleet_event")
    ]
    links.append(address("missions_sortie") + f"?mission__id__exact={ended_mission.id}")
    for link in links:
        assert link in page
        found = boss.get(link)
        assert found.status_code == 200
        assert "elsewhere" not in found.content.decode()
        assert other.ref not in found.content.decode()
    assert boss.get(links[-1]).content.decode().count("srt_0") == 3


def test_a_waiting_sortie_shows_what_it_waits_for() -> None:
    mission = fleet.launch({"first": {}, "then": {"needs": ["first"]}})
    boss = web.superuser()
    page = boss.get(address("missions_sortie")).content.decode()
    assert "Waits for an agent of type backend: none is taking work (check the health of its agents)." in page
    external_agents.register(agent_type="backend")
    page = boss.get(address("missions_sortie")).content.decode()
    assert "Waits for a free agent of type backend." in page
    assert "Waits for first." in page
    operations.pause(mission=mission.id)
    sortie = Sortie.objects.get(key="then")
    page = web.staff("view_sortie").get(address("missions_sortie", row=sortie.id)).content.decode()
    assert "Waits for its mission to be resumed: it is paused." in page


def test_a_sortie_that_waits_for_a_retry_has_no_duration(engine: Engine) -> None:
    mission = fleet.launch({"flaky": {"with": {"fail": "no"}, "retry": {"max_attempts": 3, "backoff": "100s"}}})
    until(lambda: (engine.run_slot(), fleet.states(mission.id)["flaky"] == "waiting")[1])
    Sortie.objects.filter(mission=mission).update(started_at=F("started_at") - timedelta(seconds=185))
    boss = web.superuser()
    for page in (address("missions_mission", row=mission.id), address("missions_sortie")):
        text = boss.get(page).content.decode()
        assert "retry 2/3" in text
        assert "3\N{NO-BREAK SPACE}min 5\N{NO-BREAK SPACE}s" not in text
        assert "3\N{NO-BREAK SPACE}min\N{NO-BREAK SPACE}5\N{NO-BREAK SPACE}s" not in text


def test_a_sortie_shows_when_it_started_before_the_columns_that_may_not_fit(ended_mission: Mission) -> None:
    page = web.superuser().get(address("missions_sortie")).content.decode()
    headers = [" ".join(re.sub(r"<[^>]+>", " ", header).split()) for header in re.findall(r"(?s)<th\b.*?</th>", page)]
    assert headers.index("Started") < headers.index("Mission") < headers.index("Agent type")


def test_the_heading_of_a_page_repeats_no_name(ended_mission: Mission) -> None:
    boss = web.superuser()
    for url, expected in (
        (address("missions_mission"), "Missions"),
        (address("missions_mission", row=ended_mission.id), f"Missions chevron_right {ended_mission}"),
        (address("auth_user"), "Users"),
        (reverse("admin:index"), "Overview"),
    ):
        header = boss.get(url).content.decode().partition('id="header-inner"')[2].partition("<form")[0]
        words = " ".join(re.sub(r"<[^>]+>", " ", header).split())
        assert re.search(rf"(^|(dock_to_right|arrow_back|>) ){re.escape(expected)}( |$)", words), words
        assert f"chevron_right {expected}" not in words


def test_an_event_of_a_checkpoint_names_the_checkpoint(ended_mission: Mission) -> None:
    checkpoint = checkpoints.capture(missions=[ended_mission.id])
    page = web.superuser().get(address("fleet_event")).content.decode()
    assert str(checkpoint.id) not in page
    assert f">{checkpoint.ref}<" in re.sub(r"\s", "", page)


def test_agents_are_listed_by_the_names_that_commands_accept() -> None:
    node = agents.join(name="host", pid=1, start_time=0.0)
    agent = Agent.objects.create(type_id="backend", node=node, ordinal=3)
    boss = web.superuser()
    for page in (address("agents_agent"), address("agents_agent", row=agent.id)):
        assert "backend-3@host" in boss.get(page).content.decode()


def test_a_tolerated_failure_is_labelled_as_such() -> None:
    mission = fleet.launch({"fine": {}, "lint": {"allow_failure": True, "with": {"fail": "untidy"}}})
    engine = fleet.engine()
    assert fleet.run_to_end(engine, mission) == "succeeded"
    engine.stop(within_s=5)
    boss = web.superuser()
    for page in (address("missions_mission"), address("missions_mission", row=mission.id)):
        content = boss.get(page).content.decode()
        assert "2 of 2: 1 succeeded, 1 tolerated" in content
        assert "1 failed" not in content
    lint = Sortie.objects.get(key="lint")
    for page in (
        address("missions_mission", row=mission.id),
        address("missions_sortie"),
        address("missions_sortie", row=lint.id),
    ):
        content = boss.get(page).content.decode()
        assert "Tolerated: untidy" in content
        assert re.search(r">\s*tolerated\s*<", content) or page == address("missions_sortie", row=lint.id)


def test_an_address_may_contain_an_id_and_an_unknown_id_leads_to_the_list() -> None:
    boss, mission = web.superuser(), fleet.launch({"a": {}})
    assert boss.get(address("missions_mission", row=mission.ref)).status_code == 200
    unknown = ids.encode(ids.MISSION, ids.new())
    for row in (unknown, "nonsense"):
        response = boss.get(address("missions_mission", row=row), follow=True)
        assert response.redirect_chain == [(address("missions_mission"), 302)]
        assert f"There is no mission {row}. It may have been removed." in response.content.decode()


def test_the_title_of_a_tab_names_the_page() -> None:
    boss, mission = web.superuser(), fleet.launch({"a": {}})

    def title(url: str) -> str:
        match = re.search(r"<title>(.*?)</title>", boss.get(url).content.decode(), re.DOTALL)
        return match[1].strip() if match else ""

    assert title(reverse("admin:index")) == "Overview | Fleet"
    assert title(address("missions_mission")) == "Missions | Fleet"
    assert title(address("missions_mission", row=mission.id)) == f"{mission} | Mission | Fleet"


def test_an_empty_value_is_a_dash_and_the_column_of_ids_is_called_id() -> None:
    boss, mission = web.superuser(), fleet.launch({"a": {}})
    page = boss.get(address("missions_mission")).content.decode()
    assert re.search(r">\s*–\s*<", page), "created by"
    assert not re.search(r">\s*-\s*<", page)
    for name in ("missions_mission", "missions_sortie", "agents_agent", "checkpoints_checkpoint"):
        assert not re.search(r">\s*Ref\s*<", boss.get(address(name)).content.decode()), name
    assert re.search(r">\s*ID\s*<", page)
    assert mission.ref in page


def test_the_first_page_counts_what_was_cancelled() -> None:
    mission = fleet.launch({"a": {}})
    operations.cancel(mission=mission.id)
    fleet.beat()
    page = re.sub(r"<[^>]+>", "", web.superuser().get(reverse("admin:index")).content.decode())
    assert "1 cancelled in the last 24\N{NO-BREAK SPACE}h" in page


def test_long_texts_in_the_list_of_sorties_wrap_after_the_mission() -> None:
    mission = fleet.launch({"a": {}})
    page = web.superuser().get(address("missions_sortie")).content.decode()
    sentence, name = (
        re.search(rf'<div style="max-width: 18rem; white-space: normal[^>]*>(<a [^>]*>)?{re.escape(words)}<', page)
        for words in (
            "Waits for an agent of type backend: none is taking work (check the health of its agents).",
            mission.name,
        )
    )
    assert sentence
    assert name
    assert name.start() < sentence.start()


def test_cancelled_sorties_are_counted_too() -> None:
    mission = fleet.launch({"a": {}, "b": {"needs": ["a"]}})
    operations.cancel(mission=mission.id)
    assert "2 of 2: 2 cancelled" in web.superuser().get(address("missions_mission")).content.decode()


def test_alerts_are_listed_with_their_subjects_searched_and_filtered() -> None:
    boss, mission = web.superuser(), fleet.launch({"a": {}})
    alert = Alert.objects.create(rule="mission_stalled", subject=mission.ref, message="Nothing of 'A test' has moved.")
    Alert.objects.create(rule="queue_old", subject="backend", message="A sortie for backend has waited 7 min.")
    Alert.objects.create(rule="service_slow", subject="web@host", message="web takes 2.0 s to answer.")

    def listed(**filters: str) -> list[bool]:
        page = boss.get(address("missions_alert"), filters).content.decode()
        return [words in page for words in ("has moved", "has waited 7 min", "takes 2.0 s")]

    assert listed() == [True, True, True]
    assert listed(rule="queue_old") == [False, True, False]
    assert listed(q=mission.ref) == [True, False, False]
    assert listed(q="web@") == [False, False, True]
    page = boss.get(address("missions_alert")).content.decode()
    assert address("missions_mission", row=mission.id) in page
    assert address("agents_agenttype", row="backend") in page
    assert boss.get(address("missions_alert", row=alert.id)).status_code == 200
    assert web.staff().get(address("missions_alert")).status_code == 403


@pytest.mark.parametrize("page", LISTS)
def test_a_long_list_repeats_no_query_of_a_short_one(page: str) -> None:
    boss = web.superuser()

    def statements() -> Counter[str]:
        """How often the page runs each statement, regardless of its values."""
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(address(page)).status_code == 200
        return Counter(re.sub(r"'[^']*'(::\w+)?|\b\d+\b", "?", query["sql"]).replace("?, ", "") for query in queries)

    def more() -> None:
        web.ended_mission()
        waiting = fleet.launch({"first": {}, "then": {"needs": ["first"]}})
        checkpoints.capture(missions=[waiting.id])
        Alert.objects.create(rule="mission_stalled", subject=waiting.ref, message="Nothing moves.")
        for number, sortie in enumerate(Sortie.objects.filter(key="good")):
            if not sortie.artifacts.exists():
                artifacts.add(sortie, path=f"{number}.html", content=b"x")

    more()
    boss.get(address(page))
    few = statements()
    more()
    more()
    assert Artifact.objects.count() == 3
    many = statements()
    assert {text: many[text] for text in many} == {text: few[text] or 1 for text in many}


def test_a_typed_id_or_a_uuid_finds_its_row(ended_mission: Mission) -> None:
    boss = web.superuser()
    other = fleet.launch({"elsewhere": {}})
    for text in (ended_mission.ref, f" {ended_mission.ref.upper()} ", str(ended_mission.id)):
        found = boss.get(address("missions_mission"), {"q": text}).content.decode()
        assert ended_mission.ref in found
        assert other.ref not in found
    sortie = Sortie.objects.get(key="bad")
    assert "it broke" in boss.get(address("missions_attempt"), {"q": sortie.ref}).content.decode()
    for text in ("srt_nonsense", "msn_", "_", "50% off"):
        assert boss.get(address("missions_sortie"), {"q": text}).status_code == 200


def test_without_unfold_every_page_uses_the_stock_admin(
    ended_mission: Mission, subprocess_environment: dict[str, str]
) -> None:
    web.superuser()
    urls = [address(page) for page in LISTS]
    urls += [address("missions_mission", row=ended_mission.id), address("agents_agenttype", row="backend")]
    urls += [address("missions_sortie", row=row.id) for row in Sortie.objects.all()]
    urls += [address("missions_attempt", row=row.id) for row in Attempt.objects.all()]
    urls += [address("checkpoints_checkpoint", row=checkpoints.capture(missions=[ended_mission.id]).id)]
    environment = {**os.environ, **subprocess_environment, "DJANGO_SETTINGS_MODULE": "fleet.settings"}
    process = subprocess.run(
        [sys.executable, "-c", STOCK, *urls], env=environment, capture_output=True, text=True, timeout=60
    )
    assert process.stdout.split() == ["200"] * len(urls), process.stderr


def test_the_index_page_shows_counts_and_alerts_and_links_to_every_list() -> None:
    boss, mission = web.superuser(), fleet.launch({"a": {}})
    Alert.objects.create(rule="queue_old", subject="backend", message="A sortie for backend has waited 7 min.")
    page = boss.get(reverse("admin:index")).content.decode()
    assert "A sortie for backend has waited 7 min." in page
    assert address("missions_mission", row=mission.id) in page
    for link in (*(address(name) for name in LISTS), reverse("flower"), reverse("api-docs")):
        assert f'href="{link}"' in page
    clerk = web.staff("view_mission").get(reverse("admin:index")).content.decode()
    assert "has waited" not in clerk
    assert f'href="{address("auth_user")}"' not in clerk
    assert f'href="{reverse("flower")}"' not in clerk


def test_the_index_page_warns_while_the_sandbox_is_off(settings: Any) -> None:
    boss = web.superuser()
    assert "without a sandbox" not in boss.get(reverse("admin:index")).content.decode()
    settings.FLEET_SANDBOX = False
    assert "without a sandbox" in boss.get(reverse("admin:index")).content.decode()


def test_rows_have_readable_names_and_no_empty_history_page(ended_mission: Mission) -> None:
    boss = web.superuser()
    node = agents.join(name="host", pid=1, start_time=0.0)
    agent = Agent.objects.create(type_id="backend", node=node, ordinal=1)
    page = boss.get(address("agents_agent", row=agent.id)).content.decode()
    assert f"Agt_{agent.ref[4:]}" not in page
    assert "/history/" not in page
    assert "/history/" in boss.get(address("agents_agenttype", row="backend")).content.decode()


def test_an_empty_list_offers_to_add_a_row_only_where_rows_can_be_added() -> None:
    boss = web.superuser()
    assert "Create a new item" not in boss.get(address("missions_mission")).content.decode()
    assert "Rows appear here as the fleet works" in boss.get(address("missions_mission")).content.decode()
    assert "Rows appear here as the fleet works" not in boss.get(address("missions_template")).content.decode()


def test_an_empty_list_offers_to_reset_only_filters_that_are_in_use() -> None:
    boss = web.superuser()
    assert "Reset filters" not in boss.get(address("missions_alert")).content.decode()
    for query in ("q=backend", "rule=stalled"):
        assert "Reset filters" in boss.get(f"{address('missions_alert')}?{query}").content.decode()


def test_output_and_logs_contain_no_control_characters(ended_mission: Mission) -> None:
    boss, bad = web.superuser(), Sortie.objects.get(key="bad")
    Output.objects.create(sortie=bad, attempt=1, stream="stdout", text="\x1b[31mred\x1b[0m \x1b]0;title\x07")
    node = agents.join(name="host", pid=1, start_time=0.0)
    agent = Agent.objects.create(type_id="backend", node=node, ordinal=1)
    agent.log.create(text="\x1b[31mready\x1b[0m\n")
    for page, words in (
        (address("missions_sortie", row=bad.id), "red"),
        (address("agents_agent", row=agent.id), "ready"),
    ):
        text = boss.get(page).content.decode()
        assert words in text
        assert "\x1b" not in text


def test_the_page_of_a_user_shows_the_role() -> None:
    boss = web.superuser()
    assert re.search(r">\s*admin\s*<", boss.get(address("auth_user")).content.decode())


def test_the_search_of_the_site_finds_pages_and_rows_each_time() -> None:
    boss = web.superuser()
    for _ in range(2):
        found = boss.get("/admin/search/?s=mission")
        assert found.status_code == 200
        assert reverse("admin:missions_mission_changelist") in found.content.decode()
        assert boss.get("/admin/search/?s=boss&extended=1").status_code == 200
