"""Who else needs the bytes of artifacts: upper layers register, and cleanup asks them before it removes a file."""

from __future__ import annotations

from collections.abc import Callable, Collection

Holder = Callable[[Collection[str]], Collection[str]]
_holders: list[Holder] = []


def register(holder: Holder) -> None:
    """Register a function that returns those of the given digests whose bytes it needs."""
    _holders.append(holder)


def held(digests: Collection[str]) -> set[str]:
    """Those of these digests whose bytes somebody needs."""
    return {digest for holder in _holders for digest in holder(digests)} if digests else set()
