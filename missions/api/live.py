"""Live event streams of one mission, or of all missions that the caller can see."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import ids
from fleet.access.actor import Actor
from fleet.api.endpoints import Validated, endpoint
from fleet.api.openapi import headers
from fleet.api.openapi.examples import MOMENT, text_response
from fleet.api.serializers import Strict, Text
from fleet.api.views import actor_of
from fleet.live import tickets
from fleet.live.streaming import MEDIA_TYPE, LiveView, StreamQuery
from missions.api import events
from missions.models import Mission
from missions.queries import visibility
from missions.states import FINAL_MISSION_STATES, MissionState

CLOSING_KINDS = frozenset({f"mission.{state.value}" for state in MissionState if state.final})
_STREAM = text_response(
    MEDIA_TYPE,
    "retry: 2000\nid: 81713-0\n\nid: 81714-20415\nevent: sortie.running\n"
    f'data: {{"id":20415,"at":"{MOMENT.isoformat()}","kind":"sortie.running",…}}\n\n'
    'id: 81790-20433\nevent: end\ndata: {"code":1000,"state":"succeeded","why":"It has ended: succeeded."}\n\n',
)


class TicketRequest(Strict):
    path = Text(
        max_length=200, initial=f"/ws/v1/missions/{ids.encode(ids.MISSION, ids.EXAMPLE)}",
        help_text="of the stream to open, such as /api/v1/events/stream or /ws/v1/missions/msn_…",
    )  # fmt: skip


class TicketResponse(serializers.Serializer[Any]):
    """A ticket, which works once, and its lifetime in seconds."""

    ticket = serializers.CharField(initial="tkt_8Vw0nR4y")
    expires_in = serializers.IntegerField(initial=tickets.LIFETIME_S, help_text="seconds")


class Tickets(LiveView):
    @endpoint("tickets.create", body=TicketRequest, response=TicketResponse, status=201, secret=True, location=False)
    def post(self, request: Request, *, body: Validated) -> Response:
        """Get a ticket that opens one stream, once, for clients that cannot set headers."""
        text = tickets.issue(grant=self.grant(request), path=body["path"])
        return Response({"ticket": text, "expires_in": tickets.LIFETIME_S}, status=201)


class MissionStream(LiveView):
    @endpoint("missions.read", query=StreamQuery, response=_STREAM, extra_headers=[headers.LAST_EVENT_ID])
    def get(self, request: Request, ref: str, *, query: Validated) -> StreamingHttpResponse:
        """Follow a mission: its events as they happen, as server-sent events. `data` has the format of `GET …/events`.
        The stream starts now, or after the last id; `0-0` starts at the first event. After the mission has ended, the
        stream sends a last event `end` and closes: do not reconnect. By WebSocket: /ws/v1/missions/{id}."""
        mission = visibility.mission(actor_of(request), ref)
        return _follow(self, request, query, action="missions.read", scope=mission.id)


class EventStream(LiveView):
    @endpoint("events.list", query=StreamQuery, response=_STREAM, extra_headers=[headers.LAST_EVENT_ID])
    def get(self, request: Request, *, query: Validated) -> StreamingHttpResponse:
        """Follow all visible missions; for admins, agents, nodes and services too. By WebSocket: /ws/v1/events."""
        return _follow(self, request, query, action="events.list", scope=None)


def visible_scopes(actor: Actor, scopes: Collection[UUID]) -> set[UUID]:
    """The missions among these that the caller can see."""
    return set(visibility.missions(actor).filter(id__in=scopes).values_list("id", flat=True))


def outcome(mission: UUID) -> str:
    """The final state of a mission; empty if it has not ended."""
    ended = Mission.objects.filter(id=mission, state__in=FINAL_MISSION_STATES).values_list("state", flat=True)
    return ended.first() or ""


def _follow(
    view: LiveView, request: Request, query: Validated, *, action: str, scope: UUID | None
) -> StreamingHttpResponse:
    return view.follow(
        request, query, action=action, scope=scope, visible_events=events.visible_events, visible_scopes=visible_scopes,
        serialize=events.serialize, closing_kinds=CLOSING_KINDS, outcome=outcome,
    )  # fmt: skip
