"""Events over HTTP: of one mission, and of the whole fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import ids
from fleet.access.actor import Actor
from fleet.access.rules import Visibility
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.serializers import Text
from fleet.api.views import ApiView, actor_of
from fleet.events import naming
from fleet.events.models import Event, EventQuerySet
from missions.api import responses
from missions.queries import visibility

Events = TypeVar("Events", bound=QuerySet[Event])


class EventFilter(PageQuery):
    kind = Text(max_length=60, required=False, initial="sortie", help_text="a full kind, or the part before the dot")
    ordering = serializers.ChoiceField(["id", "-id"], default="-id", help_text="oldest or newest first")


class EventList(ApiView):
    @endpoint("events.list", query=EventFilter, response=page_of(responses.EventResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List events of the visible missions; for admins, those of agents, nodes and services too."""
        return _page(request, visible_events(actor_of(request), Event.objects.all()), query)


class MissionEvents(ApiView):
    @endpoint("missions.read", query=EventFilter, response=page_of(responses.EventResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> Response:
        """List the events of a mission and its sorties."""
        mission = visibility.mission(actor_of(request), ref)
        return _page(request, Event.objects.filter(scope=mission.id), query)


def visible_events(actor: Actor, events: Events) -> Events:
    """The events among these that the caller can see."""
    if actor.visibility("events.list") is Visibility.ALL:
        return events
    return events.filter(scope__in=visibility.missions(actor).values("id"))


def serialize(event: Event) -> dict[str, Any]:
    """`{id, at, kind, mission, subject, key, data}`. `key` is set if `naming.name` was called on the event."""
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "mission": ids.encode(ids.MISSION, event.scope) if event.scope else None,
        "subject": event.subject_ref,
        "key": event.name,
        "data": event.public_data,
    }


def _page(request: Request, events: EventQuerySet, query: Validated) -> Response:
    if kind := query.get("kind"):
        events = events.of_kind(kind)
    return paginate(request, events, query=query, serialize=_serialize_all, ordering=query["ordering"])


def _serialize_all(events: Sequence[Event]) -> list[dict[str, Any]]:
    naming.set_names(events)
    return [serialize(event) for event in events]
