"""Bodies as JSON; what is none is a problem, however deep, and not a fault of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser


class JsonParser(BaseParser):
    """Strict JSON (RFC 8259): no NaN, UTF-8."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            return json.loads(stream.read(), parse_constant=_refuse)
        except (ValueError, RecursionError) as fault:
            said = "it is nested too deep" if isinstance(fault, RecursionError) else fault
            raise ParseError(f"The body is not JSON: {said}.") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
