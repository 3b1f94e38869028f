"""Typed, sortable ids: a uuid7 in the database, `srt_01hz…` for people and programs.

The text form is a TypeID (https://github.com/jetify-com/typeid): a prefix that names the type, and the 128 bits of the
uuid as 26 characters of Crockford's base32. It sorts like the uuid.
"""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

import uuid_utils

from fleet import errors

MISSION, SORTIE, AGENT, NODE, ARTIFACT = "msn", "srt", "agt", "nod", "art"
KEY, SESSION, CHECKPOINT, CONFLICT, RESERVATION = "key", "ses", "chk", "cfl", "rsv"
SCHEDULE = "sch"
_NOUNS = {
    MISSION: "a mission", SORTIE: "a sortie", AGENT: "an agent", NODE: "a node", ARTIFACT: "an artifact", KEY: "a key",
    SESSION: "a session", CHECKPOINT: "a checkpoint", CONFLICT: "a conflict", RESERVATION: "a reservation",
    SCHEDULE: "a schedule",
}  # fmt: skip

EXAMPLE = UUID("01997c5e-2f8a-7b31-9c44-5d1e6f7a8b90")  # for documentation

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # ids are encoded ten bits at a time
_SHIFTS = range(120, -1, -10)


def new() -> UUID:
    """Create a uuid7 (RFC 9562), which sorts by the millisecond of its creation."""
    return UUID(int=uuid_utils.uuid7().int)


@lru_cache(4096)  # an attempt writes the ids of its sortie and mission again and again
def encode(prefix: str, value: UUID) -> str:
    """Return the text form: `encode("srt", uuid)` is `srt_` and 26 characters."""
    number = value.int
    return prefix + "_" + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def pattern(prefix: str) -> str:
    """Return a regular expression that matches the ids with this prefix."""
    return f"^{prefix}_[0-7][{_ALPHABET}]{{25}}$"


def decode(prefix: str, text: str) -> UUID:
    """Parse an id with this prefix; raises Invalid for any other text."""
    head, _, tail = text.strip().lower().partition("_")
    valid = len(tail) == 26 and all(character in _VALUES for character in tail) and tail[0] <= "7"
    if head != prefix or not valid:
        mismatch = f"is the id of {_NOUNS[head]}, not of" if valid and head in _NOUNS else "is not the id of"
        noun = _NOUNS.get(prefix, "an object")  # the admin's search tries any prefix
        raise errors.Invalid(f"{text!r} {mismatch} {noun}.", hint=f"Such an id looks like {prefix}_01j….")
    number = 0
    for character in tail:
        number = number << 5 | _VALUES[character]
    return UUID(int=number)
