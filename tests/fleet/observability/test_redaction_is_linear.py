"""The time to redact a hostile text is linear in its length: a quadratic search of a megabyte would take hours."""

from __future__ import annotations

import time

import pytest

from fleet.observability import redaction
from fleet.observability.redactor import Redactor

BYTES = 1_000_000
MAX_CPU_S = 10  # each text takes less than one

HOSTILE = {
    "a scheme without an end": "a",
    "slashes": "/",
    "colons": ":",
    "beginnings of URLs": "a://",
    "URLs without slashes": "https:",
    "URLs with a user": "a://b:",
    "URLs with a user, without slashes": "://b:c",
    "many at signs": "://b:c@",
    "beginnings of private keys": "-----BEGIN PRIVATE KEY-----",
    "beginnings of tokens": "eyJaaaaaaaa.",
    "beginnings of tokens in one word": "-eyJ",
    "words in one": "a-",
    "machine keys": "flk_aaaa_",
    "names of secrets": "password",
    "names of secrets with spaces": "password" + " " * 1_000,
    "schemes of credentials": "Bearer ",
    "percent signs": "%2",
}


@pytest.mark.parametrize("part", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_megabyte_is_redacted_in_time(part: str) -> None:
    text = "https://user:" + part * (BYTES // len(part))
    redactor = Redactor(["a" * 40, "%2f" * 20, "password" * 4])
    begin = time.process_time()
    redaction.text(text, max_length=BYTES)
    redaction.mask_own_secrets(text)
    redactor.text(text)
    assert time.process_time() - begin < MAX_CPU_S
