"""The paths of streams: each WebSocket below /ws/v1/ corresponds to an SSE stream below /api/v1/.

/ws/v1/missions/msn_…    /api/v1/missions/msn_…/events/stream
/ws/v1/events            /api/v1/events/stream
"""

from __future__ import annotations

import re

from fleet import errors

REQUESTED_PATH = "fleet.path"  # key in the ASGI scope of the path that a WebSocket requested
_OBJECT = r"[a-z-]{1,30}/\w{1,60}"
_STREAM = re.compile(rf"/api/v1/(?:{_OBJECT}/)?events/stream", re.ASCII)
_SOCKET = re.compile(rf"/ws/v1/(?:(?P<object>{_OBJECT})|events)", re.ASCII)


def is_stream(path: str) -> bool:
    return _STREAM.fullmatch(path) is not None


def sse_path_for(path: str) -> str | None:
    """The SSE path that corresponds to the path of a WebSocket; None if there is none."""
    if (match := _SOCKET.fullmatch(path)) is None:
        return None
    return f"/api/v1/{match['object']}/events/stream" if match["object"] else "/api/v1/events/stream"


def check(path: str) -> None:
    """Raise Invalid unless this is the path of a stream."""
    if not is_stream(path) and sse_path_for(path) is None:
        raise errors.Invalid(
            f"{path[:80]!r} is not the path of a stream.",
            hint="Use a path such as /api/v1/events/stream or /ws/v1/missions/msn_…, without a query.",
            pointer="/path",
        )
