"""Templates in the admin: only valid plans are saved, and the audit trail records changes."""

from __future__ import annotations

import pytest

from fleet.audit.models import Entry
from missions.models import Template
from tests.support import web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
ADD = "/admin/missions/template/add/"


def test_a_valid_plan_is_saved_and_an_invalid_one_is_refused_with_its_problems() -> None:
    boss = web.superuser()
    bad = boss.post(
        ADD, {"name": "bad", "text": "mission: x\nsorties:\n  a: {agent: nobody, run: ls}\n", "enabled": "on"}
    )
    assert "line 3" in bad.content.decode()
    good = boss.post(
        ADD, {"name": "good", "text": "mission: x\nsorties:\n  a: {agent: backend, run: ls}\n", "enabled": "on"}
    )
    assert good.status_code == 302
    assert list(Template.objects.values_list("name", flat=True)) == ["good"]
    boss.post("/admin/missions/template/good/change/", {"name": "good", "text": Template.objects.get().text})
    boss.post("/admin/missions/template/good/delete/", {"post": "yes"})
    assert list(Entry.objects.filter(subject="good").order_by("id").values_list("kind", "actor")) == [
        ("template.created", "user:boss"), ("template.changed", "user:boss"), ("template.deleted", "user:boss"),
    ]  # fmt: skip
