"""Lease tokens, which prove one attempt of a sortie: who knows of sorties says here how to tell a good one."""

from __future__ import annotations

from collections.abc import Callable

_fits: Callable[[str], bool] | None = None


def register(fits: Callable[[str], bool]) -> None:
    """`fits` says whether a token was given out, be its lease still held or not."""
    global _fits
    _fits = fits


def fits(token: str) -> bool:
    return _fits is not None and _fits(token)
