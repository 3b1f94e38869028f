"""The six kinds of error that the fleet tells its users.

Each kind carries the HTTP status and the exit code that the interfaces answer with (exit codes: docs/settings.md).
Subclass a kind where a caller must tell one case from another; its docstring is the message where none is given.
An error says what happened and where; `hint` says what to do next, and `over_http` what a client of the API does, where that
is something else.
"""

from __future__ import annotations

from typing import ClassVar


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
    """It does not exist."""

    code = "not_found"
    status = 404


class Invalid(FleetError):
    """The request is not valid.

    `pointer`: where in the body of a request, or the name of its parameter behind /.
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
