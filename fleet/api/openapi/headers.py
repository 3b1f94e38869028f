"""The request and response headers of the API, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence

from drf_spectacular.utils import OpenApiParameter

from fleet import ids


def request_header(name: str, example: str, description: str, *, required: bool = False) -> OpenApiParameter:
    schema = {"type": "string", "examples": [example]}
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, required=required, description=description)


def response_header(name: str, example: str, description: str, *, by: Sequence[int]) -> OpenApiParameter:
    """A header that every response with one of these status codes has."""
    schema = {"type": "string", "examples": [example]}
    return OpenApiParameter(
        name, schema, OpenApiParameter.HEADER, response=list(by), required=True, description=description
    )


_TAG = '"9f86d081884c7d659a2feaa0c55ad015"'
IDEMPOTENCY_KEY = request_header(
    "Idempotency-Key", "01997c5e-2f8a-7b31-9c44-5d1e6f7a8b90",
    "Repeating the request with the same key has no further effect and returns the first response.",
)  # fmt: skip
IF_MATCH = request_header(
    "If-Match", _TAG, "The ETag of the version that was read; 412 if it has changed since.", required=True
)
IF_NONE_MATCH = request_header(
    "If-None-Match", _TAG, "The ETag of the version that was read; 304 if it has not changed since."
)
RANGE = request_header("Range", "bytes=0-1023", "One range of bytes: 206, or 416 if it is empty.")
LAST_EVENT_ID = request_header(
    "Last-Event-ID", "81714-20415", "The id of the last event received. The stream starts after it."
)
ETAG = response_header("ETag", _TAG, "The version, for If-Match and If-None-Match.", by=[200])
LOCATION = response_header("Location", "/api/v1/missions/msn_…", "The URL of the result.", by=[201, 202])
CONTENT_RANGE = response_header(
    "Content-Range", "bytes 3-8/28", "The range and the total size; `bytes */28` if the range is empty.", by=[206, 416]
)
ACCEPT_RANGES = response_header("Accept-Ranges", "bytes", "`none` with `follow=true`.", by=[200, 206, 416])
DISPOSITION = response_header(
    "Content-Disposition", 'attachment; filename="report.md"', "`attachment`, with a file name.", by=[200]
)
LENGTH = response_header("Content-Length", "26", "The size in bytes.", by=[200])
ERROR_HEADERS = {  # added by fleet.api.openapi.examples, because all operations share the error responses
    "X-Request-ID": (
        ids.encode("req", ids.EXAMPLE),
        "Identifies this request in the logs and the audit trail.",
    ),
    "Retry-After": ("12", "Seconds to wait before retrying, if known (429, 503)."),
    "WWW-Authenticate": ("Bearer", "How to sign in (401)."),
}
