"""A registry of upper layers that use stored files. Cleanup asks them before it removes a file."""

from __future__ import annotations

from collections.abc import Callable, Collection

from fleet import registrations

Holder = Callable[[Collection[str]], Collection[str]]
_holders: list[Holder] = []


def register(holder: Holder) -> None:
    """Register a function that takes digests and returns those that are in use."""
    _holders.append(holder)


def in_use(digests: Collection[str]) -> set[str]:
    """The digests among these that a registered function reports as in use."""
    registrations.load()
    return {digest for holder in _holders for digest in holder(digests)} if digests else set()
