"""The parser of JSON bodies. Anything that is not JSON, or is nested too deeply, causes a 400 and never a 500."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

MAX_DIGITS = 4_300  # Python's own limit for converting integers to and from text


class JsonParser(BaseParser):
    """Strict JSON (RFC 8259): UTF-8 only, no NaN, no duplicate names in an object."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            text = stream.read().decode("utf-8-sig")
            with _collections.paused():
                return json.loads(text, parse_int=_integer, parse_constant=_refuse, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise ParseError(f"The body is not JSON: {reason}.") from None


class _Collections:
    """Pauses the garbage collector while any thread parses.

    It would search each new object several times for cycles, which parsed JSON does not have, and multiply the time of
    parsing a million of them, during which the process answers nobody.
    """

    def __init__(self) -> None:
        self._lock, self._parsing = threading.Lock(), 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._lock:
            self._parsing += 1
            gc.disable()
        try:
            yield
        finally:
            with self._lock:
                self._parsing -= 1
                if not self._parsing:
                    gc.enable()


_collections = _Collections()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()  # a list would make this quadratic
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{name[:100]!r} appears twice in one object")
            seen.add(name)
    return members


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS:,} digits")
    return int(digits)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")
