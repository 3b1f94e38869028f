"""The admin has one name for each of its pages: in the menu, in titles, in breadcrumbs and in messages."""

from __future__ import annotations

import html
import re

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils.text import capfirst

from fleet import audit
from fleet.admin import navigation
from tests.support import web

pytestmark = pytest.mark.django_db
MENU = [(title, page) for _, pages in navigation.PAGES for title, page, _ in pages]


def visible_text(client: Client, path: str) -> str:
    response = client.get(path, follow=True)
    assert response.status_code == 200
    page = response.content.decode()
    page = re.sub(r"(?s)<(script|style)\b.*?</\1>|<span class=\"material-symbols[^>]*>.*?</span>", " ", page)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.mark.parametrize("title,page", MENU, ids=[page for _, page in MENU])
def test_a_page_has_the_title_of_its_entry_in_the_menu(title: str, page: str) -> None:
    assert capfirst(apps.get_model(page)._meta.verbose_name_plural) == title


@pytest.mark.parametrize("page", ["group/", "group/add/", "group/{team}/change/", "group/{team}/delete/",
                                  "user/", "user/{user}/change/"])  # fmt: skip
def test_no_page_calls_a_team_a_group(page: str) -> None:
    boss, team = web.superuser(), Group.objects.create(name="web")
    text = visible_text(boss, f"/admin/auth/{page.format(team=team.pk, user=User.objects.get().pk)}")
    text = re.sub(r"Can (add|change|delete|view) group", "", text)  # Django's names of its permissions, in the database
    assert not re.findall(r"(?i).{0,20}\bgroups?\b.{0,20}", text)


def test_the_list_of_the_audit_trail_counts_entries() -> None:
    for _ in range(2):
        audit.record(kind="denied", outcome="denied", subject="web")
    text = visible_text(web.superuser(), "/admin/fleet/entry/?outcome=denied")
    assert re.search(r"\d+ audit entries", text)
    assert not re.search(r"Audit entries", text)
