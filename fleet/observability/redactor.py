"""Redacts known secret values in the output of an attempt, and decides which names denote secrets.

A `Redactor` knows the values of the attempt's secret variables. `fleet.observability.redaction` redacts secrets by
their name or shape alone, and uses this module's rules for names.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

HIDDEN = "[redacted]"
MIN_LENGTH = 8  # characters; shorter values occur in too much harmless text
MAX_LENGTH = 2048  # bytes; a longer secret is split into parts of this length, so that little of a stream is held back
# Group 1 is the part before the password. The time is linear in the text, because a match ends before the next slash.
URL_PASSWORD = re.compile(r"(://[^\s/@:]*):[^\s/]+@")

_NAMES = re.compile(
    r"^pass$|passw|passphrase|passcode|^pwd|secret|authori[sz]ation|cookie|credential|apikey|accesskey|privatekey"
    r"|signingkey|keymaterial|sessionid|sessionkey|csrf|jwt|bearer"
)
_PERHAPS = re.compile(r"token|^key$|^refresh$|^access$|^code$|^ticket$")
_WORDS = frozenset({"key", "pass", "pat", "auth", "dsn"})  # in names of variables, such as DEPLOY_KEY and DB_PASS
_FOLDERS = frozenset({"PWD", "OLDPWD"})
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_BREAKS = b"\r\n"
# At the end of a line, fewer matching characters of an encoded secret are held back only if the line looks like base64.
_MIN_MATCH = 4
_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/_-]{32}[\r\n]*\Z")


def is_secret_name(name: str) -> bool:
    """Whether a field of this name contains a secret, regardless of its value."""
    return _NAMES.search(_normalized(name)) is not None


def may_be_secret_name(name: str) -> bool:
    """Whether a field of this name may contain a secret: a `token` may be a secret, or just a count."""
    return _PERHAPS.search(_normalized(name)) is not None


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable contains a secret, judged by its name."""
    if name.upper() in _FOLDERS:
        return False
    words = re.split(r"[^a-z0-9]+", name.lower())
    return is_secret_name(name) or may_be_secret_name(name) or not _WORDS.isdisjoint(words)


def _normalized(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(slots=True)
class _Pending:
    """The end of a stream that may be the beginning of a secret, held back until more arrives.

    Its first `covered` bytes belong to a secret for which HIDDEN was already emitted.
    """

    data: bytes = b""
    covered: int = 0


class Redactor:
    """Replaces the secrets of one attempt by HIDDEN, in complete strings and in streams.

    It recognises a secret in plain text, in JSON, URL-encoded, and in base64 (both alphabets, all three alignments,
    wrapped at any width). Secrets shorter than MIN_LENGTH characters are not redacted.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({part for secret in secrets if len(secret) >= MIN_LENGTH for part in _parts(secret)})
        self._streams: dict[str, _Pending] = {}

    def __len__(self) -> int:
        """The number of parts of secrets that it searches for: a secret of many lines has many."""
        return len(self._secrets)

    def redact(self, data: bytes) -> bytes:
        """Redact data that is complete."""
        return self._emit(data, len(data), 0)[0] if self._secrets else data

    def text(self, text: str) -> str:
        if not self._secrets or len(text) < MIN_LENGTH:
            return text
        data = text.encode("utf-8", "surrogatepass")
        return self.redact(data).decode("utf-8", "surrogatepass") if any(self._spans(data)) else text

    def value(self, value: Any) -> Any:
        """Redact every string and key in a JSON value. Its nesting is bounded (fleet/values.py)."""
        if not self._secrets:
            return value
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {self.text(name): self.value(item) for name, item in value.items()}
            case list() | tuple():
                return [self.value(item) for item in value]
        return value

    def feed(self, stream: str, data: bytes) -> bytes:
        """Redact the next piece of a stream, which may be cut anywhere.

        An end that may be the beginning of a secret is held back until the next piece; it is at most as long as the
        longest encoding of a secret.
        """
        if not self._secrets:
            return data
        pending = self._streams.setdefault(stream, _Pending())
        data, covered = pending.data + data, pending.covered
        until = self._first_partial_match(data)
        output, pending.covered = self._emit(data, until, covered)
        pending.data = data[until:]
        return output

    def flush(self, stream: str) -> bytes:
        """Return the redacted data that is still held back at the end of a stream."""
        pending = self._streams.pop(stream, _Pending())
        return self._emit(pending.data, len(pending.data), pending.covered)[0]

    def _emit(self, data: bytes, until: int, covered: int) -> tuple[bytes, int]:
        """Redact the data up to `until`. Also returns how many bytes after it belong to a secret redacted here."""
        if not until:
            return b"", covered
        output: list[bytes] = []
        at = 0
        for begin, end in _merged([*([(0, covered)] if covered else []), *self._spans(data)]):
            if begin >= until:
                break
            output.append(data[at:begin])
            if begin or not covered:
                output.append(HIDDEN.encode())
            at = end
        output.append(data[at:until])
        return b"".join(output), max(0, at - until)

    # ── Finding secrets ──────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _literals(self) -> tuple[bytes, ...]:
        """The forms that are searched literally: plain, in Python's repr, and in JSON."""
        forms: set[bytes] = set()
        for secret in self._secrets:
            text = secret.decode("utf-8", "surrogateescape")
            forms |= {secret, repr(text)[1:-1].encode("utf-8", "surrogateescape")}
            for ascii_only in (True, False):
                forms.add(json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape"))
        return tuple(sorted(forms))

    @cached_property
    def _encoded(self) -> tuple[bytes, ...]:
        """The base64 forms: for each alignment, the characters that depend only on the secret. Lines may break them."""
        forms: set[bytes] = set()
        for secret in self._secrets:
            for before in range(3):
                padded = base64.b64encode(b"\0" * before + secret + b"\0\0")
                core = padded[-(-8 * before // 6) : 8 * (before + len(secret)) // 6]
                forms |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
        return tuple(sorted(forms))

    @cached_property
    def _percent(self) -> tuple[tuple[bytes, re.Pattern[bytes]], ...]:
        """The secrets that URLs encode, each with a pattern that matches any mixture of characters and their codes."""
        return tuple(
            (secret, re.compile(b"(?=(" + b"".join(map(_percent_pattern, secret)) + b"))"))
            for secret in self._secrets
            if _is_reserved(secret)
        )

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield the begin and end of each occurrence of a secret."""
        for form in self._literals:
            yield from _occurrences(form, data)
        unbroken = data.translate(None, _BREAKS)
        offsets: list[int] | None = None  # in `data`, by the offset in `unbroken`
        for form in self._encoded:
            for begin, end in _occurrences(form, unbroken):
                if len(unbroken) < len(data):
                    offsets = offsets or [offset for offset, byte in enumerate(data) if byte not in _BREAKS]
                    begin, end = offsets[begin], offsets[end - 1] + 1
                yield begin, end
        if b"%" in data or b"+" in data:
            for _, pattern in self._percent:
                for match in pattern.finditer(data):
                    yield match.span(1)

    def _first_partial_match(self, data: bytes) -> int:
        """Return the offset of the first secret that may continue after the end of the data, or the data's length."""
        first = len(data)
        for form in self._literals:
            first = min(first, _partial_match(form, data))
        tail = data[-(2 * max(map(len, self._encoded)) + 8) :]
        unbroken = tail.translate(None, _BREAKS)
        offsets = (
            [offset for offset, byte in enumerate(tail) if byte not in _BREAKS] if len(unbroken) < len(tail) else None
        )
        for form in self._encoded:
            begin = _partial_match(form, unbroken)
            if begin == len(unbroken):
                continue
            offset = begin if offsets is None else offsets[begin]
            if data[-1] in _BREAKS and len(unbroken) - begin < _MIN_MATCH and not _BASE64_LINE.search(data):
                continue  # so few matching characters are most likely the end of an ordinary line
            first = min(first, len(data) - len(tail) + offset)
        for secret, _ in self._percent:
            for begin in range(max(0, len(data) - 3 * len(secret)), first):
                if _may_begin(secret, data, begin):
                    first = begin
                    break
        return first


def _parts(secret: str) -> Iterator[bytes]:
    """Yield the parts of a secret: the secret itself and each of its lines, each split if it is long."""
    data = secret.encode("utf-8", "surrogateescape")
    lines = [line.strip() for line in data.splitlines()]
    for text in {data, *(line for line in lines if len(line) >= 2 * MIN_LENGTH)}:
        for begin in range(0, len(text), MAX_LENGTH):
            # The last part overlaps the one before, so that it is not too short to be redacted.
            yield text[max(0, min(begin, len(text) - MAX_LENGTH)) : begin + MAX_LENGTH]


def _occurrences(form: bytes, data: bytes) -> Iterator[tuple[int, int]]:
    begin = data.find(form)
    while begin >= 0:
        yield begin, begin + len(form)
        begin = data.find(form, begin + 1)


def _partial_match(form: bytes, data: bytes) -> int:
    """Return the offset of the longest end of the data that is a beginning of `form`, or the data's length."""
    begin = max(0, len(data) - len(form) + 1)
    while (begin := data.find(form[:1], begin)) >= 0:
        if form.startswith(data[begin:]):
            return begin
        begin += 1
    return len(data)


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Merge overlapping spans and yield them in order."""
    spans.sort()
    merged: list[tuple[int, int]] = []
    for begin, end in spans:
        if merged and begin < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    yield from merged


def _is_reserved(secret: bytes) -> bool:
    return not _UNRESERVED.issuperset(secret)


def _percent_pattern(byte: int) -> bytes:
    """Return a pattern that matches a byte, plain or URL-encoded."""
    if byte in _UNRESERVED:
        return re.escape(bytes([byte]))
    forms = [b"%%(?i:%02x)" % byte, re.escape(bytes([byte])), *([rb"\+"] if byte == 0x20 else [])]
    return b"(?:" + b"|".join(forms) + b")"


def _may_begin(secret: bytes, data: bytes, begin: int) -> bool:
    """Whether the data from `begin` to its end is the beginning of the secret, plain or URL-encoded."""
    states = {(begin, 0)}  # an offset in the data, and the number of bytes of the secret matched by then
    while states:
        offset, count = states.pop()
        if offset == len(data):
            if count < len(secret):
                return True
            continue
        if count == len(secret):
            continue
        byte, expected = data[offset], secret[count]
        if byte == expected or (byte == 0x2B and expected == 0x20):
            states.add((offset + 1, count + 1))
        if byte == 0x25 and expected not in _UNRESERVED:
            code, expected_code = data[offset + 1 : offset + 3].lower(), b"%02x" % expected
            if code == expected_code:
                states.add((offset + 3, count + 1))
            elif offset + 1 + len(code) == len(data) and expected_code.startswith(code):
                return True
    return False
