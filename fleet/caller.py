"""Who is acting now, for the audit trail and the logs: set once at each way in (a request, a command), read below it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """`name` is as people read it: "user:ann", "key:flk_3fA9", "agent:srt_…/2", "command:root", "system"."""

    name: str = "system"
    user: int | None = None  # id of the user on whose behalf
    address: str = ""  # the client's, as far as proxies can be trusted
    request: str = ""  # request id


_now: ContextVar[Caller | None] = ContextVar("fleet_caller", default=None)
SYSTEM = Caller()


def current() -> Caller:
    return _now.get() or SYSTEM


@contextmanager
def acting(caller: Caller) -> Iterator[None]:
    """Within this block (and what it awaits), this one acts."""
    token = _now.set(caller)
    try:
        yield
    finally:
        _now.reset(token)


def identify(*, name: str, user: int | None) -> None:
    """Now it is known who asks; the request and the address stay."""
    _now.set(replace(current(), name=name, user=user))
