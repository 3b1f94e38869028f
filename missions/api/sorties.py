"""Sorties over HTTP: what each waits for or came to, its attempts, what it printed and gave out; cancel and retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.endpoints import Given, endpoint
from fleet.api.http import ranges
from fleet.api.http.paging import Paged, of, page
from fleet.api.openapi import headers
from fleet.api.openapi.examples import file, words
from fleet.api.serializers import Strict
from fleet.api.views import ApiView, AsItComes, actor
from fleet.live.hub import hub
from missions import operations, views
from missions.api import shapes
from missions.api.missions import Reason
from missions.models import Attempt, Output, Sortie
from missions.queries import reads, visibility
from missions.states import SortieState

PIECES = 500  # in one answer
LOOK_S = 0.5
FOLLOWED_S = 25  # a stream that is followed ends after so long; ask again with `after`


class LogQuery(Strict):
    attempt = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="the last one, unless told"
    )
    after = serializers.IntegerField(
        default=0, min_value=0, max_value=2**63 - 1, help_text="behind the piece with this id"
    )


class TextQuery(Strict):
    attempt = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="the last one, unless told"
    )
    follow = serializers.BooleanField(default=False, help_text=f"go on while it prints, for {FOLLOWED_S} s at most")


_TEXT = {
    **words("text/plain", "1 of 10 files\n2 of 10 files\n"),
    **words("text/plain", "f 10 f", status=206),
    **words("text/plain", "", status=416),
}


class OneSortie(ApiView):
    @endpoint("sorties.read", answer=shapes.OneSortieAnswer)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """A sortie."""
        return _one(visibility.sortie(actor(request), ref), request)


class Attempts(ApiView):
    @endpoint("sorties.read", query=Paged, answer=of(shapes.AttemptAnswer))
    def get(self, request: Request, ref: str, *, asked: Given) -> Response:
        """Its attempts, with what each came to and used."""
        sortie = visibility.sortie(actor(request), ref)
        found = Attempt.objects.filter(sortie=sortie).select_related("sortie")
        return page(request, found, asked=asked, shape=lambda rows: [_attempt(one) for one in rows], ordering="id")


class Logs(ApiView):
    @endpoint("sorties.read", query=LogQuery, answer=shapes.LogAnswer)
    def get(self, request: Request, ref: str, *, asked: Given) -> dict[str, Any]:
        """What an attempt printed, in pieces: stdout and stderr as they came."""
        sortie = visibility.sortie(actor(request), ref)
        number = _attempt_of(sortie, asked.get("attempt"))
        ended = not _runs(sortie, number)  # before the pieces are read, or the last ones could be missed
        found = _pieces(sortie, number, asked["after"])
        return {
            "sortie": sortie.ref,
            "attempt": number,
            "pieces": [
                {"id": one.id, "at": one.at.isoformat(), "stream": one.stream, "text": one.text} for one in found
            ],
            "after": found[-1].id if found else asked["after"],
            "ended": ended and len(found) < PIECES,
        }


class LogText(ApiView):
    content_negotiation_class = AsItComes

    @endpoint(
        "sorties.read",
        query=TextQuery,
        answer=_TEXT,
        told=[headers.RANGE, headers.CONTENT_RANGE, headers.ACCEPT_RANGES],
    )
    def get(self, request: Request, ref: str, *, asked: Given) -> HttpResponse | StreamingHttpResponse:
        """The same as plain text, for `curl`; takes byte ranges (RFC 9110, section 14), but not while it is followed."""
        sortie = visibility.sortie(actor(request), ref)
        number = _attempt_of(sortie, asked.get("attempt"))
        if asked["follow"]:
            user = actor(request).user
            listener = user.id if user else 0  # whoever shows a lease token is nobody
            hub.make_room(listener)
            nothing_to_flow = request.method == "HEAD"
            followed = () if nothing_to_flow else _followed(sortie, number, listener=listener)
            return StreamingHttpResponse(
                followed, content_type="text/plain; charset=utf-8", headers={**_PLAIN, "Accept-Ranges": "none"}
            )
        text = "".join(reads.output(sortie=sortie, attempt=number).values_list("text", flat=True).iterator())
        return ranges.answer(
            request=request, content=text.encode(), media_type="text/plain; charset=utf-8", more=_PLAIN
        )


class Artifacts(ApiView):
    @endpoint("sorties.read", query=Paged, answer=of(shapes.ArtifactAnswer))
    def get(self, request: Request, ref: str, *, asked: Given) -> Response:
        """The files that it gave out."""
        sortie = visibility.sortie(actor(request), ref)
        found = reads.artifacts(sortie.mission).filter(sortie=sortie)
        return page(request, found, asked=asked, shape=lambda files: [*map(reads.artifact, files)], ordering="id")


class ArtifactContent(ApiView):
    content_negotiation_class = AsItComes

    @endpoint(
        "sorties.read", answer=file("# Report\n\nNothing to mend.\n"),
        told=[headers.IF_NONE_MATCH, headers.ETAG, headers.DISPOSITION, headers.LENGTH],
    )  # fmt: skip
    def get(self, request: Request, ref: str) -> StreamingHttpResponse:
        """The bytes of a file, as an attachment."""
        return views.attachment(visibility.artifact(actor(request), ref))


class Cancel(ApiView):
    @endpoint("sorties.cancel", body=Reason, answer=shapes.OneSortieAnswer, status=202)
    def post(self, request: Request, ref: str, *, given: Given) -> Response:
        """Cancel it: what runs is stopped, and what needs it is skipped."""
        sortie = visibility.sortie(actor(request), ref, "sorties.cancel")
        return _accepted(operations.cancel_sortie(sortie=sortie.id, reason=given["reason"]), request)


class Retry(ApiView):
    @endpoint("sorties.retry", answer=shapes.OneSortieAnswer, status=202)
    def post(self, request: Request, ref: str) -> Response:
        """Fly it again, and what was skipped because of it. plan.execute is asked for as by a mission's `resume`."""
        who = actor(request)
        sortie = visibility.sortie(who, ref, "sorties.retry")
        return _accepted(operations.retry_sortie(sortie=sortie.id, executes=who.executes), request)


_PLAIN = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-store",
    "X-Accel-Buffering": "no",
}


def _one(sortie: Sortie, request: Request) -> dict[str, Any]:
    return {**reads.item(sortie, visible=visibility.missions(actor(request))), "mission": sortie.mission.ref}


def _accepted(sortie: Sortie, request: Request) -> Response:
    now = Sortie.objects.select_related("mission").get(id=sortie.id)
    return Response(_one(now, request), status=202, headers={"Location": f"/api/v1/sorties/{now.ref}"})


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        **reads.bar(attempt),
        "result": attempt.result,
        "exit_code": attempt.exit_code,
        "cpu_s": attempt.cpu_s,
        "max_rss_bytes": attempt.max_rss_bytes,
        "progress": attempt.progress,
        "note": attempt.note,
    }


def _attempt_of(sortie: Sortie, asked: int | None) -> int:
    number = sortie.attempt if asked is None else asked
    if asked is not None and not Attempt.objects.filter(sortie=sortie, number=number).exists():
        raise errors.NotFound(f"{sortie.key} has no attempt {number}.", hint="See its attempts.")
    return number


def _runs(sortie: Sortie, number: int) -> bool:
    """Whether more may be printed."""
    state, attempt = Sortie.objects.values_list("state", "attempt").get(id=sortie.id)
    return not SortieState(state).final and attempt <= number


def _pieces(sortie: Sortie, number: int, after: int) -> list[Output]:
    return list(reads.output(sortie=sortie, attempt=number, after=after)[:PIECES])


async def _followed(sortie: Sortie, number: int, *, listener: int) -> AsyncIterator[str]:
    """Who follows takes a place among the listeners to events, meanwhile."""
    hub.take(listener)
    try:
        async for text in _printed(sortie, number):
            yield text
    finally:
        hub.take(listener, -1)


async def _printed(sortie: Sortie, number: int) -> AsyncIterator[str]:
    after = 0
    for _ in range(int(FOLLOWED_S / LOOK_S)):
        runs, pieces = await hub.work(lambda: (_runs(sortie, number), _pieces(sortie, number, after)))  # noqa: B023
        for piece in pieces:
            after = piece.id
            yield piece.text
        if len(pieces) < PIECES:
            if not runs:
                return
            await asyncio.sleep(LOOK_S)
