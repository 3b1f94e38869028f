"""The current caller, for the audit trail and the logs: set where a request or command enters, read anywhere below."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who acts. `name` is for people: "user:ann", "key:flk_3fA9", "agent:srt_…/2", "command:root", "system"."""

    name: str = "system"
    user: int | None = None  # the id of the user on whose behalf
    address: str = ""  # of the client, behind trusted proxies
    request: str = ""  # the id of the request


_current: ContextVar[Caller | None] = ContextVar("fleet_caller", default=None)
SYSTEM = Caller()


def current() -> Caller:
    return _current.get() or SYSTEM


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Make `caller` the current one within the block and everything that it awaits."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def identify(*, name: str, user: int | None) -> None:
    """Set the name and the user of the current caller after authentication; the request and the address stay."""
    _current.set(replace(current(), name=name, user=user))
