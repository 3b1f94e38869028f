"""Upper layers register the artifacts that they use here, and cleanup checks that before it removes a file."""

from __future__ import annotations

from collections.abc import Callable, Collection

Holder = Callable[[Collection[str]], Collection[str]]
_holders: list[Holder] = []


def register(holder: Holder) -> None:
    """Register a function that returns the digests that are in use, out of those that it gets."""
    _holders.append(holder)


def in_use(digests: Collection[str]) -> set[str]:
    """The digests among these that a registered function reports as in use."""
    return {digest for holder in _holders for digest in holder(digests)} if digests else set()
