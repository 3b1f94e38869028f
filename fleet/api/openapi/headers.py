"""The headers that requests and answers of the API may have, as its OpenAPI document tells of them."""

from __future__ import annotations

from collections.abc import Sequence

from drf_spectacular.utils import OpenApiParameter

from fleet import ids


def asked(name: str, example: str, description: str, *, required: bool = False) -> OpenApiParameter:
    """One of a request."""
    schema = {"type": "string", "examples": [example]}
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, required=required, description=description)


def told(name: str, example: str, description: str, *, by: Sequence[int]) -> OpenApiParameter:
    """One that answers with these status codes always have."""
    schema = {"type": "string", "examples": [example]}
    return OpenApiParameter(
        name, schema, OpenApiParameter.HEADER, response=list(by), required=True, description=description
    )


_TAG = '"9f86d081884c7d659a2feaa0c55ad015"'
IDEMPOTENCY_KEY = asked(
    "Idempotency-Key", "01997c5e-2f8a-7b31-9c44-5d1e6f7a8b90",
    "The effect happens once, and the same answer is given, however often the request is sent.",
)  # fmt: skip
IF_MATCH = asked("If-Match", _TAG, "The ETag of what was read; 412 if it has changed since.", required=True)
IF_NONE_MATCH = asked("If-None-Match", _TAG, "The ETag of what was read; 304 if it has not changed since.")
RANGE = asked("Range", "bytes=0-1023", "One range of bytes: 206, or 416 where there is nothing in it.")
LAST_EVENT_ID = asked("Last-Event-ID", "81714-20415", "The last id that was heard: all that happened since is told.")
ETAG = told("ETag", _TAG, "Changes with the thing, for If-Match and If-None-Match.", by=[200])
LOCATION = told("Location", "/api/v1/missions/msn_…", "Where to look.", by=[201, 202])
CONTENT_RANGE = told(
    "Content-Range", "bytes 3-8/28", "Which bytes of how many these are; `bytes */28` where none are.", by=[206, 416]
)
ACCEPT_RANGES = told("Accept-Ranges", "bytes", "`none` while it is followed.", by=[200, 206, 416])
DISPOSITION = told(
    "Content-Disposition", 'attachment; filename="report.md"', "To be saved, and under which name.", by=[200]
)
LENGTH = told("Content-Length", "27", "Its bytes.", by=[200])
OF_REFUSALS = {  # told by hand in fleet.api.examples, as all operations share those answers
    "X-Request-ID": (
        ids.encode("req", ids.EXAMPLE),
        "By which the fleet's logs and its audit trail name this request.",
    ),
    "Retry-After": ("12", "After how many seconds to come again, where that is of use (429, 503)."),
    "WWW-Authenticate": ("Bearer", "How to sign in (401)."),
}
