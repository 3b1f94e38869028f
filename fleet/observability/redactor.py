"""Takes known secrets out of what a piece of work says, and decides which names are those of secrets.

A `Redactor` knows the values themselves: those of the variables that an attempt was given. Secrets that are known by their
name or by their shape alone are for `fleet.audit.redaction`, which asks here what a secret's name looks like.
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
SHORTEST = 8  # characters; shorter values are part of too many innocent texts
LONGEST = 2048  # bytes; a longer secret is several of at most that length, so that little of a stream is held back

_NAMES = re.compile(
    r"^pass$|passw|passphrase|passcode|^pwd|secret|authori[sz]ation|cookie|credential|apikey|accesskey|privatekey"
    r"|signingkey|keymaterial|sessionid|sessionkey|csrf|jwt|bearer"
)
_PERHAPS = re.compile(r"token|^key$|^refresh$|^access$|^code$|^ticket$")
_WORDS = frozenset({"key", "pass", "pat", "auth", "dsn"})  # of a variable's name: DEPLOY_KEY, DB_PASS
_FOLDERS = frozenset({"PWD", "OLDPWD"})
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_BREAKS = b"\r\n"
_BROKEN = 4  # characters of an encoded secret that must stand before a line's end for it to be held back there, but for
_LINE = re.compile(rb"[A-Za-z0-9+/_-]{32}[\r\n]*\Z")  # a line that looks like base64


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, whatever its value is."""
    return _NAMES.search(_plain(name)) is not None


def is_perhaps_secret_name(name: str) -> bool:
    """Whether it may: a token is a secret where it is a text, and often a count where it is a number."""
    return _PERHAPS.search(_plain(name)) is not None


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable of this name holds a secret, as far as its name tells."""
    if name.upper() in _FOLDERS:
        return False
    words = re.split(r"[^a-z0-9]+", name.lower())
    return is_secret_name(name) or is_perhaps_secret_name(name) or not _WORDS.isdisjoint(words)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(slots=True)
class _Held:
    """The end of a stream that may be the beginning of a secret. Its first `covered` bytes are of one that is told as hidden
    already."""

    data: bytes = b""
    covered: int = 0


class Redactor:
    """Of one attempt. Hides each secret as it stands, as in JSON, URL-encoded, and in base64, whatever it is a part of and in
    whatever lines (both alphabets, all three alignments). Secrets shorter than SHORTEST characters are not hidden."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({part for one in secrets if len(one) >= SHORTEST for part in _parts(one)})
        self._streams: dict[str, _Held] = {}

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def whole(self, data: bytes) -> bytes:
        """Something that is complete."""
        return self._emit(data, len(data), 0)[0] if self._secrets else data

    def text(self, text: str) -> str:
        if not self._secrets or len(text) < SHORTEST:
            return text
        data = text.encode("utf-8", "surrogatepass")
        return self.whole(data).decode("utf-8", "surrogatepass") if any(self._spans(data)) else text

    def value(self, value: Any) -> Any:
        """The same of every text and name in a JSON value, which is not nested deeply (fleet/values.py)."""
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

    def piece(self, stream: str, data: bytes) -> bytes:
        """The next piece of a stream that is cut anywhere. An end that may be the beginning of a secret waits for the next
        piece; it is never longer than a secret's longest form."""
        if not self._secrets:
            return data
        held = self._streams.setdefault(stream, _Held())
        data, covered = held.data + data, held.covered
        until = self._first_open(data)
        told, held.covered = self._emit(data, until, covered)
        held.data = data[until:]
        return told

    def rest(self, stream: str) -> bytes:
        """What waited in vain."""
        held = self._streams.pop(stream, _Held())
        return self._emit(held.data, len(held.data), held.covered)[0]

    def _emit(self, data: bytes, until: int, covered: int) -> tuple[bytes, int]:
        """The data up to there with its secrets hidden, and how many bytes after that are of one that is hidden now."""
        if not until:
            return b"", covered
        told: list[bytes] = []
        at = 0
        for begin, end in _merged([*([(0, covered)] if covered else []), *self._spans(data)]):
            if begin >= until:
                break
            told.append(data[at:begin])
            if begin or not covered:
                told.append(HIDDEN.encode())
            at = end
        told.append(data[at:until])
        return b"".join(told), max(0, at - until)

    # ── Where secrets are ────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _literals(self) -> tuple[bytes, ...]:
        """Forms that stand in a text as they are."""
        found: set[bytes] = set()
        for secret in self._secrets:
            text = secret.decode("utf-8", "surrogateescape")
            found |= {secret, repr(text)[1:-1].encode("utf-8", "surrogateescape")}
            for ascii_only in (True, False):
                found.add(json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape"))
        return tuple(sorted(found))

    @cached_property
    def _encoded(self) -> tuple[bytes, ...]:
        """Forms in base64, which may have ends of lines within: of each alignment what the secret alone decides."""
        found: set[bytes] = set()
        for secret in self._secrets:
            for before in range(3):
                padded = base64.b64encode(b"\0" * before + secret + b"\0\0")
                core = padded[-(-8 * before // 6) : 8 * (before + len(secret)) // 6]
                found |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
        return tuple(sorted(found))

    @cached_property
    def _percent(self) -> tuple[tuple[bytes, re.Pattern[bytes]], ...]:
        """The secrets that URLs encode, and a pattern for each: any mixture of characters and their codes."""
        return tuple(
            (secret, re.compile(b"(?=(" + b"".join(map(_percent, secret)) + b"))"))
            for secret in self._secrets
            if _is_reserved(secret)
        )

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        for form in self._literals:
            yield from _found(form, data)
        squeezed = data.translate(None, _BREAKS)
        places: list[int] | None = None
        for form in self._encoded:
            for begin, end in _found(form, squeezed):
                if len(squeezed) < len(data):
                    places = places or [place for place, byte in enumerate(data) if byte not in _BREAKS]
                    begin, end = places[begin], places[end - 1] + 1
                yield begin, end
        if b"%" in data or b"+" in data:
            for _, pattern in self._percent:
                for match in pattern.finditer(data):
                    yield match.span(1)

    def _first_open(self, data: bytes) -> int:
        """Where the first form begins that the end of the data may be in the middle of; the data's length where there is none."""
        first = len(data)
        for form in self._literals:
            first = min(first, _open(form, data))
        tail = data[-(2 * max(map(len, self._encoded)) + 8) :]
        squeezed = tail.translate(None, _BREAKS)
        places = (
            [place for place, byte in enumerate(tail) if byte not in _BREAKS] if len(squeezed) < len(tail) else None
        )
        for form in self._encoded:
            begin = _open(form, squeezed)
            if begin == len(squeezed):
                continue
            place = begin if places is None else places[begin]
            if data[-1] in _BREAKS and len(squeezed) - begin < _BROKEN and not _LINE.search(data):
                continue  # after so little of it, it is most likely the end of an ordinary line
            first = min(first, len(data) - len(tail) + place)
        for secret, _ in self._percent:
            for begin in range(max(0, len(data) - 3 * len(secret)), first):
                if _may_begin(secret, data, begin):
                    first = begin
                    break
        return first


def _parts(secret: str) -> Iterator[bytes]:
    """A secret, in several where it is long; and each of its lines, as tools print them apart."""
    data = secret.encode("utf-8", "surrogateescape")
    lines = [line.strip() for line in data.splitlines()]
    for whole in {data, *(line for line in lines if len(line) >= 2 * SHORTEST)}:
        for begin in range(0, len(whole), LONGEST):
            # The last is not shorter than the others, so that no end of a secret is too short to be hidden.
            yield whole[max(0, min(begin, len(whole) - LONGEST)) : begin + LONGEST]


def _found(form: bytes, data: bytes) -> Iterator[tuple[int, int]]:
    begin = data.find(form)
    while begin >= 0:
        yield begin, begin + len(form)
        begin = data.find(form, begin + 1)


def _open(form: bytes, data: bytes) -> int:
    """Where the longest end of the data begins that a form begins with; its length where none does."""
    begin = max(0, len(data) - len(form) + 1)
    while (begin := data.find(form[:1], begin)) >= 0:
        if form.startswith(data[begin:]):
            return begin
        begin += 1
    return len(data)


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans that overlap as one, in order."""
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


def _percent(byte: int) -> bytes:
    """A pattern for a byte as it stands, or as a URL has it."""
    if byte in _UNRESERVED:
        return re.escape(bytes([byte]))
    ways = [b"%%(?i:%02x)" % byte, re.escape(bytes([byte])), *([rb"\+"] if byte == 0x20 else [])]
    return b"(?:" + b"|".join(ways) + b")"


def _may_begin(secret: bytes, data: bytes, begin: int) -> bool:
    """Whether the data from there to its end is the beginning of the secret, as it stands or as a URL has it."""
    states = {(begin, 0)}  # a place in the data, and how much of the secret has been found by then
    while states:
        place, count = states.pop()
        if place == len(data):
            if count < len(secret):
                return True
            continue
        if count == len(secret):
            continue
        here, wanted = data[place], secret[count]
        if here == wanted or (here == 0x2B and wanted == 0x20):
            states.add((place + 1, count + 1))
        if here == 0x25 and wanted not in _UNRESERVED:
            code, text = data[place + 1 : place + 3].lower(), b"%02x" % wanted
            if code == text:
                states.add((place + 3, count + 1))
            elif place + 1 + len(code) == len(data) and text.startswith(code):
                return True
    return False
