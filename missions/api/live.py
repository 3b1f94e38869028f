"""Following a mission, or all that one sees, as it happens."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import ids
from fleet.access.actor import Actor
from fleet.access.rules import Reach
from fleet.api.endpoints import Given, endpoint
from fleet.api.openapi import headers
from fleet.api.openapi.examples import MOMENT, words
from fleet.api.serializers import Strict, Text
from fleet.api.views import actor
from fleet.events.models import Event
from fleet.live import tickets
from fleet.live.streaming import MEDIA_TYPE, Asked, LiveView
from missions.api import events
from missions.models import FINAL, Mission
from missions.queries import visibility
from missions.states import MissionState

CLOSING = frozenset({f"mission.{state.value}" for state in MissionState if state.final})
_STREAM = words(
    MEDIA_TYPE,
    "retry: 2000\nid: 81713-0\n\nid: 81714-20415\nevent: sortie.running\n"
    f'data: {{"id":20415,"at":"{MOMENT.isoformat()}","kind":"sortie.running",…}}\n\n'
    'id: 81790-20433\nevent: end\ndata: {"code":1000,"state":"succeeded","why":"It has ended: succeeded."}\n\n',
)


class Wanted(Strict):
    path = Text(
        max_length=200, initial=f"/ws/v1/missions/{ids.encode(ids.MISSION, ids.EXAMPLE)}",
        help_text="of the stream that it opens: /api/v1/events/stream, /ws/v1/missions/msn_…",
    )  # fmt: skip


class TicketAnswer(serializers.Serializer[Any]):
    """A ticket, which is good once, and its life in seconds."""

    ticket = serializers.CharField(initial="tkt_8Vw0nR4y")
    expires_in = serializers.IntegerField(initial=tickets.LIFE_S, help_text="seconds")


class Tickets(LiveView):
    @endpoint("tickets.create", body=Wanted, answer=TicketAnswer, status=201, secret=True, located=False)
    def post(self, request: Request, *, given: Given) -> Response:
        """Get a ticket with which a browser opens one stream, once."""
        text = tickets.issue(grant=self.grant(request), path=given["path"])
        return Response({"ticket": text, "expires_in": tickets.LIFE_S}, status=201)


class MissionStream(LiveView):
    @endpoint("missions.read", query=Asked, answer=_STREAM, told=[headers.LAST_EVENT_ID])
    def get(self, request: Request, ref: str, *, asked: Given) -> StreamingHttpResponse:
        """Follow a mission: its events as they happen, as server-sent events. Each `data` is one as `GET …/events` lists
        them. It begins at now, or behind the last id; `0-0` begins with the mission. Once the mission has ended, a
        last event, `end`, says so and the stream closes: do not come again. By WebSocket: /ws/v1/missions/{id}."""
        mission = visibility.mission(actor(request), ref)
        return _follow(self, request, asked, action="missions.read", scope=mission.id)


class EventStream(LiveView):
    @endpoint("events.list", query=Asked, answer=_STREAM, told=[headers.LAST_EVENT_ID])
    def get(self, request: Request, *, asked: Given) -> StreamingHttpResponse:
        """Follow the missions that one sees; an admin hears of agents, nodes and services too. By WebSocket: /ws/v1/events."""
        return _follow(self, request, asked, action="events.list", scope=None)


def narrow(who: Actor, found: QuerySet[Event]) -> QuerySet[Event]:
    """To the events that a caller may see."""
    everything = who.reach("events.list") is Reach.ALL
    return found if everything else found.filter(scope__in=visibility.missions(who).values("id"))


def visible(who: Actor, scopes: Collection[UUID]) -> set[UUID]:
    """Which of these missions a caller sees."""
    return set(visibility.missions(who).filter(id__in=scopes).values_list("id", flat=True))


def outcome(mission: UUID) -> str:
    """The state in which a mission has ended; empty while it goes on."""
    ended = Mission.objects.filter(id=mission, state__in=FINAL).values_list("state", flat=True)
    return ended.first() or ""


def _follow(
    view: LiveView, request: Request, asked: Given, *, action: str, scope: UUID | None
) -> StreamingHttpResponse:
    return view.follow(
        request, asked, action=action, scope=scope, narrow=narrow, visible=visible, shape=events.shape,
        closing=CLOSING, outcome=outcome,
    )  # fmt: skip
