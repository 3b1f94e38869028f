"""Recognises lease tokens. The app that issues them registers the check: this layer knows nothing of sorties."""

from __future__ import annotations

from collections.abc import Callable

_is_known: Callable[[str], bool] | None = None


def register(is_known: Callable[[str], bool]) -> None:
    """`is_known(token)`: whether the token was issued, whether or not its lease is still held."""
    global _is_known
    _is_known = is_known


def is_known(token: str) -> bool:
    return _is_known is not None and _is_known(token)
