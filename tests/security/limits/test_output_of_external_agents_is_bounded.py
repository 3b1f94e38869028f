"""The output of external agents is bounded like that of the fleet's own: head, tail, and the amount that is omitted."""

from __future__ import annotations

import re

import pytest
from django.db.models import Sum
from django.db.models.functions import Length
from pytest_django import Settings

from missions.models import Output
from missions.operations import external_agents
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

BOUND = 20_000


@pytest.fixture
def token(settings: Settings) -> str:
    settings.FLEET_OUTPUT_BYTES = BOUND
    fleet.launch({"one": {"run": "make it"}})
    (lease,) = external_agents.claim(agent=external_agents.register(agent_type="backend", concurrency=1).id)
    return lease.token


def stored_output() -> str:
    return "".join(Output.objects.order_by("id").values_list("text", flat=True))


def test_the_head_and_tail_are_kept_and_a_line_says_how_much_is_omitted(token: str) -> None:
    sent = [f"{n:05} {'x' * 993}\n" for n in range(60)]
    for item in sent:
        external_agents.progress(token=token, output=item)
    text = stored_output()
    assert len(text) < BOUND + 2_000
    assert text.startswith("".join(sent[:7]))
    assert text.endswith("".join(sent[-7:]))
    (left_out,) = re.findall(r"… (\d+) characters left out …", text)
    assert int(left_out) == sum(map(len, sent)) - len(re.sub(r"\n… \d+ characters left out …\n", "", text))


def test_a_single_large_piece_is_bounded_too(token: str) -> None:
    for n in range(10):
        external_agents.progress(token=token, output=str(n) * 100_000)
    total = Output.objects.aggregate(total=Sum(Length("text")))["total"]
    assert total < BOUND * 1.5
    assert stored_output().startswith("0000")
    assert stored_output().endswith("9999")


def test_many_tiny_pieces_are_bounded_too(token: str) -> None:
    for _ in range(250):
        external_agents.progress(token=token, output="x")
    assert Output.objects.count() < BOUND / 100 + 20


def test_output_within_the_limit_is_unchanged(token: str) -> None:
    for item in ("a\n", "b\n", "c\n"):
        external_agents.progress(token=token, output=item)
    assert stored_output() == "a\nb\nc\n"
