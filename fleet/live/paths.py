"""The addresses of streams: each WebSocket below /ws/v1/ is the same as an SSE stream below /api/v1/.

/ws/v1/missions/msn_…    /api/v1/missions/msn_…/events/stream
/ws/v1/events            /api/v1/events/stream
"""

from __future__ import annotations

import re

from fleet import errors

ASKED = "fleet.path"  # where in the ASGI scope the path stands that a WebSocket asked for
_ONE = r"[a-z-]{1,30}/\w{1,60}"
_STREAM = re.compile(rf"/api/v1/(?:{_ONE}/)?events/stream", re.ASCII)
_SOCKET = re.compile(rf"/ws/v1/(?:(?P<one>{_ONE})|events)", re.ASCII)


def is_stream(path: str) -> bool:
    return _STREAM.fullmatch(path) is not None


def of_socket(path: str) -> str | None:
    """The stream that a WebSocket's path stands for; None where it stands for none."""
    if (found := _SOCKET.fullmatch(path)) is None:
        return None
    return f"/api/v1/{found['one']}/events/stream" if found["one"] else "/api/v1/events/stream"


def check(path: str) -> None:
    """Invalid for what is no path of a stream."""
    if not is_stream(path) and of_socket(path) is None:
        raise errors.Invalid(
            f"{path[:80]!r} is no stream.",
            hint="One is /api/v1/events/stream or /ws/v1/missions/msn_…; no query.",
            pointer="/path",
        )
