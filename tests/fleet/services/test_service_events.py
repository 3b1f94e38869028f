"""What the supervisor notes about services becomes events, each once."""

from __future__ import annotations

import pytest
from django.conf import settings

from fleet.events.models import Event
from fleet.services import events, journal

pytestmark = pytest.mark.django_db


def test_an_entry_of_the_journal_becomes_an_event_once() -> None:
    journal.append(
        settings.FLEET_HOME, kind="service.slow", service="valkey", message="It took 2 s.", data={"ms": 2000}
    )
    (entry,) = journal.last(settings.FLEET_HOME, 5)
    assert events.record() == 1
    events._insert([entry])
    (event,) = Event.objects.filter(kind="service.slow")
    assert event.data == {"service": "valkey", "message": "It took 2 s.", "ms": 2000}
    assert events.record() == 0
