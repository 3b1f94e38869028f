"""The supervisor's journal of services becomes events, each exactly once."""

from __future__ import annotations

import pytest
from django.conf import settings

from fleet.events.models import Event
from fleet.services import events, journal

pytestmark = pytest.mark.django_db


def test_each_journal_entry_becomes_one_event() -> None:
    journal.append(
        settings.FLEET_HOME, kind="service.slow", service="valkey", message="It took 2 s.", data={"ms": 2000}
    )
    (entry,) = journal.last(settings.FLEET_HOME, 5)
    assert events.record() == 1
    events._insert([entry])
    (event,) = Event.objects.filter(kind="service.slow")
    assert event.data == {"service": "valkey", "message": "It took 2 s.", "ms": 2000}
    assert events.record() == 0
