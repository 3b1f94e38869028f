"""Events over HTTP: of a mission, and of the whole fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import ids
from fleet.access.actor import Actor
from fleet.access.rules import Reach
from fleet.api.endpoints import Given, endpoint
from fleet.api.http.paging import Paged, of, page
from fleet.api.serializers import Text
from fleet.api.views import ApiView, actor
from fleet.events import naming
from fleet.events.models import Event, EventQuerySet
from missions.api import shapes
from missions.queries import reads, visibility

naming.register("sortie", reads.keys)
PREFIXES = {"sortie": ids.SORTIE, "mission": ids.MISSION, "agent": ids.AGENT, "node": ids.NODE}


class Filter(Paged):
    kind = Text(
        max_length=60, required=False, initial="sortie", help_text="as a whole, or what stands before its point"
    )
    ordering = serializers.ChoiceField(["id", "-id"], default="-id", help_text="the oldest or the newest first")


class Events(ApiView):
    @endpoint("events.list", query=Filter, answer=of(shapes.EventAnswer))
    def get(self, request: Request, *, asked: Given) -> Response:
        """Events of missions that one sees; an admin sees those of agents, nodes and services too."""
        return _page(request, seen(actor(request)), asked)


class MissionEvents(ApiView):
    @endpoint("missions.read", query=Filter, answer=of(shapes.EventAnswer))
    def get(self, request: Request, ref: str, *, asked: Given) -> Response:
        """The events of a mission and its sorties."""
        mission = visibility.mission(actor(request), ref)
        return _page(request, Event.objects.filter(scope=mission.id), asked)


def seen(who: Actor) -> EventQuerySet:
    """The events that a caller may see."""
    events = Event.objects.all()
    return (
        events
        if who.reach("events.list") is Reach.ALL
        else events.filter(scope__in=visibility.missions(who).values("id"))
    )


def shape(event: Event) -> dict[str, Any]:
    """`{id, at, kind, mission, subject, key, data}`. The key is there where the event was named (fleet.events.naming)."""
    prefix = PREFIXES.get(event.kind.partition(".")[0])
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "mission": ids.encode(ids.MISSION, event.scope) if event.scope else None,
        "subject": ids.encode(prefix, event.subject) if event.subject and prefix else None,
        "key": event.name,
        "data": event.told,
    }


def _page(request: Request, events: EventQuerySet, asked: Given) -> Response:
    if kind := asked.get("kind"):
        events = events.of_kind(kind)
    return page(request, events, asked=asked, shape=_shapes, ordering=asked["ordering"])


def _shapes(events: Sequence[Event]) -> list[dict[str, Any]]:
    naming.name(events)
    return [shape(event) for event in events]
