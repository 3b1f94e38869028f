"""Secrets are taken out here, for the audit trail and for logs: by the name they go under, by their shape, and the fleet's
own by their text. What is left is harmless to JSON, to Postgres and to a terminal, and bounded."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from django.conf import settings

from fleet.observability.redactor import HIDDEN, is_perhaps_secret_name, is_secret_name

TEXT = 2_000  # characters of one text
ITEMS = 100  # of one list or mapping
DEPTH = 8
BYTES = 16_384  # of one JSON document

_KEPT = frozenset({"key", "refresh", "access", "code"})  # names that are innocent unless the value is long and dense
_DENSE = re.compile(r"[A-Za-z0-9_\-+/=.]{32,}\Z")

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"\btkt_[\w-]{8,}"), f"tkt_{HIDDEN}"),
    (re.compile(r"\b(flk_[0-9A-Za-z]{4,12})_[\w-]{8,}"), rf"\1_{HIDDEN}"),  # the prefix tells people which key it is
    (re.compile(r"\b(srt_[0-9a-z]{26}\.\d+)\.[\w-]{8,}"), rf"\1.{HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}(\.[\w-]*)?"), HIDDEN),
    (re.compile(r"([a-z][a-z0-9+.-]{1,20}://[^\s/@:]{0,200}):[^\s/@]{1,500}@", re.IGNORECASE), rf"\1:{HIDDEN}@"),
    (re.compile(r"\b(Bearer|Basic|Token)\s+[\w+/=.~-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"((?:password|passwd|passphrase|secret|(?:access|refresh|api|auth)[_-]?(?:key|token)|sessionid|csrftoken)"
            r"[\"']?\s*[=:]\s*[\"']?)(?!\[redacted\])[^\s\"'&,;]{1,500}",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b(?:sk-|gh[opsu]_|github_pat_|glpat-|xox[abprs]-|AKIA)[\w-]{12,}"), HIDDEN),
)  # fmt: skip
# What could end a line of a log, steer a terminal, hide in a page, or not be stored at all.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")


def text(value: str, *, most: int = TEXT) -> str:
    """A text without secrets and without characters that steer, of at most so many characters."""
    if len(value) > 4 * most:  # shapes are looked for in what can stay, and a little more
        value = value[: 4 * most]
    for own in _own():
        value = value.replace(own, HIDDEN)
    for shape, instead in _SHAPES:
        value = shape.sub(instead, value)
    value = _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    return value if len(value) <= most else f"{value[: most - 1]}…"


def clean(value: object, *, depth: int = DEPTH) -> Any:
    """The same for a value of any kind: what can be written as JSON, of bounded size."""
    match value:
        case None | bool():
            return value
        case int():
            return value if value.bit_length() <= 256 else f"a number of {value.bit_length()} bits"
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return text(value)
        case bytes() | bytearray() | memoryview():
            return f"{len(value)} bytes"
        case _ if depth == 0:
            return "…"
        case Mapping():
            return dict(_pairs(value, depth))
        case Sequence() | set() | frozenset():
            kept = [clean(item, depth=depth - 1) for _, item in zip(range(ITEMS), value, strict=False)]
            return kept if len(value) <= ITEMS else [*kept, f"… and {len(value) - ITEMS} more"]
    return text(str(value))


def document(value: object) -> str:
    """`clean` as JSON text of at most BYTES bytes; of what is larger the beginning, as a text."""
    written = json.dumps(clean(value), ensure_ascii=True)
    return written if len(written) <= BYTES else json.dumps({"cut": written[: BYTES // 2], "length": len(written)})


def processor(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For structlog's chain of processors."""
    return clean(event)  # type: ignore[no-any-return]


class Filter(logging.Filter):
    """For handlers of the standard library: the message as it would be written, without secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = text(record.getMessage(), most=8 * TEXT), None
        return True


def _pairs(mapping: Mapping[Any, object], depth: int) -> Iterable[tuple[str, Any]]:
    for number, (name, value) in enumerate(mapping.items()):
        if number == ITEMS:
            yield "…", f"and {len(mapping) - ITEMS} more"
            return
        yield text(str(name), most=200), HIDDEN if _secret(str(name), value) else clean(value, depth=depth - 1)


def _secret(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool) or value == "":
        return False
    if is_secret_name(name):
        return True
    if not is_perhaps_secret_name(name) or isinstance(value, int | float):
        return False
    return name.lower() not in _KEPT or (isinstance(value, str) and _DENSE.match(value) is not None)


@cache
def _own() -> tuple[str, ...]:
    """The fleet's own secrets, the longest first."""
    held = settings.FLEET_CREDENTIALS
    known = {getattr(held, field.name) for field in fields(held)}
    known |= {settings.SECRET_KEY, settings.FLEET_JWT_KEY, settings.FLEET_ENDPOINTS.postgres.password}
    known |= {owner.password} if (owner := settings.FLEET_ENDPOINTS.owner) else set()
    return tuple(sorted((one for one in known if len(one) >= 8), key=len, reverse=True))
