"""Sorties over HTTP: state, attempts, output and artifacts; cancel and retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http import ranges
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.openapi import headers
from fleet.api.openapi.examples import file_response, text_response
from fleet.api.serializers import Strict
from fleet.api.views import ApiView, IgnoreAccept, actor_of
from fleet.live.hub import hub
from missions import operations, views
from missions.api import responses
from missions.api.missions import Reason
from missions.models import Attempt, Sortie
from missions.queries import mission_results, sortie_json, visibility
from missions.queries.transcripts import SortieTranscript
from missions.states import SortieState

MAX_PIECES = 500  # in one response
POLL_S = 0.5
FOLLOW_S = 25  # a followed log ends after this time; the client reconnects


class SortieLogQuery(Strict):
    attempt = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1, help_text="the last one by default"
    )
    after = serializers.IntegerField(
        default=0, min_value=0, max_value=2**63 - 1, help_text="start after the chunk with this id"
    )


class TextQuery(Strict):
    attempt = serializers.IntegerField(
        required=False, min_value=1, max_value=2**31 - 1,
        help_text="the last one by default; with `follow`, the last one and all later ones",
    )  # fmt: skip
    follow = serializers.BooleanField(
        default=False, help_text=f"keep sending new output until the end, for at most {FOLLOW_S} s"
    )


_TEXT = {
    **text_response("text/plain", "1 of 10 files\n2 of 10 files\n"),
    **text_response("text/plain", "f 10 f", status=206),
    **text_response("text/plain", "", status=416),
}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-store",
    "X-Accel-Buffering": "no",  # nginx would hold back the output of `follow`
}


class SortieDetail(ApiView):
    @endpoint("sorties.read", response=responses.SortieDetailResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Get a sortie."""
        return _detail(visibility.sortie(actor_of(request), ref), request)


class SortieAttempts(ApiView):
    @endpoint("sorties.read", query=PageQuery, response=page_of(responses.AttemptResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> Response:
        """List the attempts of a sortie, with their results and resource use."""
        sortie = visibility.sortie(actor_of(request), ref)
        attempts = Attempt.objects.filter(sortie=sortie).select_related("sortie")
        return paginate(request, attempts, query=query, serialize=lambda rows: [*map(_attempt, rows)], ordering="id")


class SortieLogs(ApiView):
    @endpoint("sorties.read", query=SortieLogQuery, response=responses.LogResponse)
    def get(self, request: Request, ref: str, *, query: Validated) -> dict[str, Any]:
        """Get the output of an attempt in chunks: stdout and stderr in the order in which they were written."""
        sortie = visibility.sortie(actor_of(request), ref)
        number = _attempt_number(sortie, query.get("attempt"))
        ended = not _is_running(sortie, number)  # read before the pieces, or the last ones could be missed
        pieces = list(mission_results.output(sortie=sortie, attempt=number, after=query["after"])[:MAX_PIECES])
        return {
            "sortie": sortie.ref,
            "attempt": number,
            "pieces": [
                {"id": piece.id, "at": piece.at.isoformat(), "stream": piece.stream, "text": piece.text}
                for piece in pieces
            ],
            "after": pieces[-1].id if pieces else query["after"],
            "ended": ended and len(pieces) < MAX_PIECES,
        }


class SortieLogText(ApiView):
    content_negotiation_class = IgnoreAccept

    @endpoint(
        "sorties.read",
        query=TextQuery,
        response=_TEXT,
        extra_headers=[headers.RANGE, headers.CONTENT_RANGE, headers.ACCEPT_RANGES],
    )
    def get(self, request: Request, ref: str, *, query: Validated) -> HttpResponse | StreamingHttpResponse:
        """Get the output as plain text, for `curl`. Byte ranges (RFC 9110, section 14) work, except with `follow`."""
        sortie = visibility.sortie(actor_of(request), ref)
        number = _attempt_number(sortie, query.get("attempt"))
        if query["follow"]:
            user = actor_of(request).user
            # Work that runs for a user must not take the streams of others. 0: the operator's missions.
            listener = user.id if user else sortie.mission.created_by_id or 0
            hub.check_capacity(listener)
            transcript = SortieTranscript(sortie=sortie, attempt=query.get("attempt"))
            output = () if request.method == "HEAD" else _follow(transcript, listener=listener)
            return StreamingHttpResponse(
                output, content_type="text/plain; charset=utf-8", headers={**_HEADERS, "Accept-Ranges": "none"}
            )
        text = "".join(mission_results.output(sortie=sortie, attempt=number).values_list("text", flat=True).iterator())
        return ranges.respond(
            request=request, content=text.encode(), media_type="text/plain; charset=utf-8", headers=_HEADERS
        )


class SortieArtifacts(ApiView):
    @endpoint("sorties.read", query=PageQuery, response=page_of(responses.ArtifactResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> Response:
        """List the artifacts of a sortie."""
        sortie = visibility.sortie(actor_of(request), ref)
        artifacts = mission_results.artifacts(sortie.mission).filter(sortie=sortie)
        return paginate(
            request,
            artifacts,
            query=query,
            serialize=lambda files: [*map(mission_results.artifact_as_json, files)],
            ordering="id",
        )


class ArtifactContent(ApiView):
    content_negotiation_class = IgnoreAccept

    @endpoint(
        "sorties.read", response=file_response("# Report\n\nNothing to fix.\n"),
        extra_headers=[headers.IF_NONE_MATCH, headers.ETAG, headers.DISPOSITION, headers.LENGTH],
    )  # fmt: skip
    def get(self, request: Request, ref: str) -> StreamingHttpResponse:
        """Download the content of an artifact, as an attachment."""
        return views.attachment(visibility.artifact(actor_of(request), ref))


class CancelSortie(ApiView):
    @endpoint("sorties.cancel", body=Reason, response=responses.SortieDetailResponse, status=202)
    def post(self, request: Request, ref: str, *, body: Validated) -> Response:
        """Cancel a sortie. Its running attempt is stopped, and the sorties that need it are skipped."""
        sortie = visibility.sortie(actor_of(request), ref, "sorties.cancel")
        return _accepted(operations.cancel_sortie(sortie=sortie.id, reason=body["reason"]), request)


class RetrySortie(ApiView):
    @endpoint("sorties.retry", response=responses.SortieDetailResponse, status=202)
    def post(self, request: Request, ref: str) -> Response:
        """Retry a sortie, and the sorties that were skipped because of it. Requires plan.execute as `resume` does."""
        actor = actor_of(request)
        sortie = visibility.sortie(actor, ref, "sorties.retry")
        return _accepted(operations.retry_sortie(sortie=sortie.id, can_execute=actor.can_execute), request)


def _detail(sortie: Sortie, request: Request) -> dict[str, Any]:
    return {
        **sortie_json.of_sortie(sortie, visible=visibility.missions(actor_of(request))),
        "mission": sortie.mission.ref,
    }


def _accepted(sortie: Sortie, request: Request) -> Response:
    current = Sortie.objects.select_related("mission").get(id=sortie.id)
    return Response(_detail(current, request), status=202, headers={"Location": f"/api/v1/sorties/{current.ref}"})


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        **sortie_json.of_attempt(attempt),
        "result": attempt.result,
        "exit_code": attempt.exit_code,
        "cpu_s": attempt.cpu_s,
        "max_rss_bytes": attempt.max_rss_bytes,
        "progress": attempt.progress,
        "note": attempt.note,
        "resume": attempt.resume,
    }


def _attempt_number(sortie: Sortie, requested: int | None) -> int:
    number = sortie.accepted_attempt if requested is None else requested
    if requested is not None and not Attempt.objects.filter(sortie=sortie, number=number).exists():
        raise errors.NotFound(
            f"{sortie.key} has no attempt {number}.", hint=f"See GET /api/v1/sorties/{sortie.ref}/attempts."
        )
    return number


def _is_running(sortie: Sortie, number: int) -> bool:
    """Whether the attempt may still write output."""
    state, attempt = Sortie.objects.values_list("state", "attempt").get(id=sortie.id)
    return not SortieState(state).final and attempt <= number


async def _follow(transcript: SortieTranscript, *, listener: int) -> AsyncIterator[str]:
    """New output as it is written. Meanwhile the follower counts as a listener to events."""
    hub.count(listener)
    try:
        async for text in _new_output(transcript):
            yield text
    finally:
        hub.count(listener, -1)


async def _new_output(transcript: SortieTranscript) -> AsyncIterator[str]:
    """New output for FOLLOW_S, however slowly the client reads: access is checked only when it reconnects."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + FOLLOW_S
    while loop.time() < deadline:
        ended, pieces = await hub.run(lambda: (transcript.ended(), list(transcript.read())))
        for piece in pieces:
            yield piece["text"]
        if ended:
            return
        await asyncio.sleep(POLL_S)
