"""Bodies as JSON; what is none is a problem, however deep, and not a fault of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

MOST_DIGITS = 4_300  # which Python reads and writes


class JsonParser(BaseParser):
    """Strict JSON (RFC 8259): no NaN, UTF-8 and nothing else, no name twice in an object."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            text = stream.read().decode("utf-8-sig")
            return json.loads(text, parse_int=_integer, parse_constant=_refuse, object_pairs_hook=_object)
        except (ValueError, RecursionError) as fault:
            said = "it is nested too deep" if isinstance(fault, RecursionError) else fault
            raise ParseError(f"The body is not JSON: {said}.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()  # or a large object would take its square of the time
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{name[:100]!r} is given twice in one object")
            seen.add(name)
    return found


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > MOST_DIGITS:
        raise ValueError(f"a number has more than {MOST_DIGITS:,} digits")
    return int(digits)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
