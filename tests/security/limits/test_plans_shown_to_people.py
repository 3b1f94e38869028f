"""Showing a plan to somebody costs the site little, however many sorties and secrets its author put into it."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse

from fleet.observability.redactor import HIDDEN
from missions import plan
from missions.api import templates
from missions.models import Template
from missions.operations import plan_reading
from missions.plan.masking import MAX_SEARCHED, WITHHELD
from tests.support import api, fleet, web


def plan_with_secrets(number: int, *, padding: int = 0) -> str:
    sorties = {
        f"s{n}": {"agent": "backend", "run": "true", "env": {"TOKEN": {"value": f"secret-{n:06d}", "secret": True}}}
        for n in range(number)
    }
    return json.dumps({"mission": "many secrets", "objective": "x" * padding, "sorties": sorties})


def test_a_text_is_not_searched_for_countless_secrets() -> None:
    searched = MAX_SEARCHED // 500
    few, many = plan_with_secrets(400, padding=searched // 2), plan_with_secrets(600, padding=searched)
    assert HIDDEN in plan.masked(few)
    assert "secret-" not in plan.masked(few)
    assert plan.masked(many) == WITHHELD


def test_each_line_of_a_secret_counts() -> None:
    lines = "\n".join(f"line {n:06d} of the secret" for n in range(600))
    env = {"KEY": {"value": lines, "secret": True}}
    sortie = {"agent": "backend", "run": "true", "env": env}
    text = json.dumps({"mission": "x", "objective": "x" * (MAX_SEARCHED // 500), "sorties": {"a": sortie}})
    assert plan.masked(text) == WITHHELD


def test_a_plan_that_takes_too_long_to_read_is_withheld_and_not_shown_unmasked() -> None:
    assert plan.masked(plan_with_secrets(100), max_s=0) == WITHHELD


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_the_page_of_a_mission_leaves_a_large_plan_to_the_separate_process() -> None:
    secret = {"env": {"TOKEN": {"value": "of-the-first-sortie", "secret": True}}}
    mission = fleet.launch({"first": secret, **{f"s{n}": {} for n in range(1_000)}})
    boss = web.superuser()
    plan_reading.reader.stop()
    page = boss.get(reverse("admin:missions_mission_change", args=[mission.id])).content.decode()
    assert HIDDEN in page
    assert "of-the-first-sortie" not in page
    assert plan_reading.reader.pid is not None


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_template_that_cannot_be_read_any_more_is_not_read_again_for_every_list() -> None:
    text = "mission: x\nsorties: {}  # valid in an earlier format\n"
    Template.objects.create(name="old", text=text)
    ann = api.person("ann")
    templates._inputs.cache_clear()
    for _ in range(3):
        (row,) = ann.get("/api/v1/templates").json()["results"]
        assert row["inputs"] == {}
    assert templates._inputs.cache_info().misses == 1
