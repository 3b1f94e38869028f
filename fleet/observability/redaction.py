"""Redacts secrets in logs and in the audit trail: by name of the field, by shape, and the fleet's own by value.

The result is bounded in size and safe for JSON, Postgres and terminals.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any
from urllib.parse import quote

from django.conf import settings

from fleet.observability.redactor import HIDDEN, URL_PASSWORD, is_secret_name, may_be_secret_name

MAX_TEXT = 2_000  # characters of one string
MAX_ITEMS = 100  # of one list or mapping
MAX_DEPTH = 8
MAX_BYTES = 16_384  # of one JSON document
MIN_SECRET = 6  # characters; a shorter secret would match ordinary words

_AMBIGUOUS = frozenset({"key", "refresh", "access", "code"})  # names of secrets only if the value is long and dense
_DENSE = re.compile(r"[A-Za-z0-9_\-+/=.]{32,}\Z")

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"\btkt_[\w-]{8,}"), f"tkt_{HIDDEN}"),
    (re.compile(r"\b(flk_[0-9A-Za-z]{4,12})_[\w-]{8,}"), rf"\1_{HIDDEN}"),  # the prefix identifies the key
    (re.compile(r"\b(srt_[0-9a-z]{26}\.\d+)\.[\w-]{8,}"), rf"\1.{HIDDEN}"),
    # It looks for the dot once per word, because looking from each `-eyJ` of a word takes quadratic time.
    (
        re.compile(r"(?<![\w-])(?=[\w-]*\.[\w-]{4})((?:[\w-]*?-)?)eyJ[\w-]{8,}\.[\w-]{4,}(\.[\w-]*)?"),
        rf"\1{HIDDEN}",
    ),
    (URL_PASSWORD, rf"\1:{HIDDEN}@"),
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
# Characters that could end a log line, control a terminal, be invisible in a page, or be rejected by Postgres.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")


def text(value: str, *, max_length: int = MAX_TEXT) -> str:
    """Redact a string, escape its control characters, and truncate it to `max_length` characters."""
    if len(value) > 4 * max_length:  # long enough to recognise a secret that the limit would cut
        value = value[: 4 * max_length]
    value = _without_own_secrets(value)
    for shape, replacement in _SHAPES:
        value = shape.sub(replacement, value)
    value = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", value)
    return value if len(value) <= max_length else f"{value[: max_length - 1]}…"


def mask_own_secrets(text: str) -> str:
    """Redact only the fleet's own secrets and the passwords in URLs, in a text of any length."""
    return URL_PASSWORD.sub(rf"\1:{HIDDEN}@", _without_own_secrets(text))


def clean(value: object, *, depth: int = MAX_DEPTH) -> Any:
    """Redact a value of any type and return a bounded value that JSON can represent."""
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
            items = [clean(item, depth=depth - 1) for _, item in zip(range(MAX_ITEMS), value, strict=False)]
            return items if len(value) <= MAX_ITEMS else [*items, f"… and {len(value) - MAX_ITEMS} more"]
    return text(str(value))


def document(value: object) -> str:
    """Return `clean(value)` as JSON. If it has more than MAX_BYTES, it becomes `{"cut": beginning, "length": n}`."""
    document = json.dumps(clean(value), ensure_ascii=True)
    if len(document) <= MAX_BYTES:
        return document
    return json.dumps({"cut": document[: MAX_BYTES // 2], "length": len(document)})


def _pairs(mapping: Mapping[Any, object], depth: int) -> Iterable[tuple[str, Any]]:
    for number, (name, value) in enumerate(mapping.items()):
        if number == MAX_ITEMS:
            yield "…", f"and {len(mapping) - MAX_ITEMS} more"
            return
        yield text(str(name), max_length=200), HIDDEN if _is_secret(str(name), value) else clean(value, depth=depth - 1)


def _is_secret(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool) or value == "":
        return False
    if is_secret_name(name):
        return True
    if not may_be_secret_name(name) or isinstance(value, int | float):
        return False
    return name.lower() not in _AMBIGUOUS or (isinstance(value, str) and _DENSE.match(value) is not None)


def _without_own_secrets(text: str) -> str:
    for secret in _own_secrets():
        text = text.replace(secret, HIDDEN)
    return text


@cache
def _own_secrets() -> tuple[str, ...]:
    """The fleet's own secrets, as they are and as URLs quote them, longest first."""
    credentials = settings.FLEET_CREDENTIALS
    secrets = {getattr(credentials, field.name) for field in fields(credentials)}
    secrets |= {settings.SECRET_KEY, settings.FLEET_JWT_KEY, settings.FLEET_ENDPOINTS.postgres.password}
    secrets.update(settings.FLEET_ENDPOINTS.redis.secrets)
    secrets |= {
        server.password for server in (settings.FLEET_ENDPOINTS.owner, settings.FLEET_ENDPOINTS.direct) if server
    }
    secrets |= {quote(secret, safe="") for secret in secrets}
    return tuple(sorted((secret for secret in secrets if len(secret) >= MIN_SECRET), key=len, reverse=True))
