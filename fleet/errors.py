"""The six kinds of error that the fleet reports to its users.

Each kind has an HTTP status (docs/api.md) and an exit code (docs/commands.md). Subclass a kind if callers must
distinguish a case; the docstring is the default message. The message says what happened and where, `hint` what to do
next, and `over_http` what a client of the API should do, if that differs.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar


class FleetError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None, *, hint: str = "", over_http: str = "") -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        self.over_http = over_http or hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class NotFound(FleetError):
    """This does not exist."""

    code = "not_found"
    status = 404


class Invalid(FleetError):
    """The request is not valid.

    `pointer` is a JSON pointer into the body of the request, or / and the name of a parameter.
    """

    code = "invalid"
    status = 422
    exit_code = 2

    def __init__(self, message: str | None = None, *, hint: str = "", over_http: str = "", pointer: str = "") -> None:
        super().__init__(message, hint=hint, over_http=over_http)
        self.pointer = pointer


class Conflict(FleetError):
    """The current state does not allow this."""

    code = "conflict"
    status = 409


class Forbidden(FleetError):
    """You are not allowed to do this."""

    code = "forbidden"
    status = 403
    exit_code = 4


class RateLimited(FleetError):
    """Too many requests."""

    code = "rate_limited"
    status = 429


class Unavailable(FleetError):
    """A required service is unavailable."""

    code = "unavailable"
    status = 503


def problem(*, status: int, code: str, detail: str, request: str) -> dict[str, Any]:
    """The members of a problem (RFC 9457). `request`: the id of the request."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request,
    }
