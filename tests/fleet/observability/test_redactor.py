"""The redactor masks secrets however they are encoded and however the stream is split, and loses nothing else."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleet.observability.redactor import HIDDEN, Redactor, is_secret_variable

SECRETS = [
    "aabaab-" + "a" * 25,
    "pa ss%wörd/+=&",
    "0123456789",
    "56789abcdef",
    'multi"line\\secret\nof two lines, really',
]


def encodings(secret: str) -> dict[str, bytes]:
    data = secret.encode()
    return {
        "plain": data,
        "url": quote(secret, safe="").encode(),
        "lower-case url": quote(secret, safe="").lower().encode() if secret.islower() else data,
        "path": quote(secret).encode(),
        "form": quote_plus(secret).encode(),
        "base64": base64.b64encode(data),
        "base64 after 1": base64.b64encode(b"x" + data + b"yz"),
        "base64 after 2": base64.b64encode(b"xy" + data + b"z"),
        "base64 for urls": base64.urlsafe_b64encode(b"user:" + data),
        "json": json.dumps(secret).encode(),
        "json in utf-8": json.dumps(secret, ensure_ascii=False).encode(),
        "repr": repr(secret).encode(),
    }


def cores(secret: str) -> set[bytes]:
    """What must not remain: the secret itself, and the part of its base64 form that depends on the secret alone."""
    found = {secret.encode(), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode() + b"\0\0")
        found.add(encoded[4 : 8 * (before + len(secret.encode())) // 6])
    return found


relaxed = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
pieces = st.lists(
    st.sampled_from([form for secret in SECRETS for form in encodings(secret).values()])
    | st.sampled_from([form[: len(form) // 2] for secret in SECRETS for form in encodings(secret).values()])
    | st.binary(max_size=12)
    | st.sampled_from([b"a", b"aab", b"\n", b"%", b"%2", b"+", b"0123456789abcdef"]),
    max_size=10,
)
cuts = st.lists(st.integers(0, 400), max_size=12)


def streamed(redactor: Redactor, data: bytes, at: list[int]) -> bytes:
    places = [0, *sorted({cut for cut in at if cut < len(data)}), len(data)]
    values = [redactor.feed("stdout", data[begin:end]) for begin, end in pairwise(places)]
    return b"".join([*values, redactor.flush("stdout")])


@relaxed
@given(pieces, cuts)
@example([b"aabaab-" + b"a" * 24, b"a"], [31])
@example([b"01234", b"56789", b"abcdef"], [10])
def test_secrets_are_masked_wherever_the_stream_is_split(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    result = streamed(Redactor(SECRETS), data, cuts)
    assert result == Redactor(SECRETS).redact(data)
    assert not [core for secret in SECRETS for core in cores(secret) if core in result]


@relaxed
@given(
    st.lists(st.text(max_size=30), max_size=5), st.sampled_from(SECRETS), st.sampled_from(list(encodings("x"))), cuts
)
def test_other_text_is_unchanged(words: list[str], secret: str, encoding: str, at: list[int]) -> None:
    apart = [
        word
        for word in words
        if not any(word[i : i + 8] in item for item in SECRETS for i in range(len(word)) if word[i:])
    ]
    before, after = "|".join(apart).encode("utf-8", "replace") + b"|", b"|the end"
    result = streamed(Redactor([secret]), before + encodings(secret)[encoding] + after, at)
    assert result.startswith(before)
    assert result.endswith(after)
    assert HIDDEN.encode() in result


@relaxed
@given(
    st.recursive(
        st.none() | st.sampled_from(SECRETS) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(SECRETS), inner),
    )
)
def test_secrets_are_masked_in_texts_and_keys_of_a_value(value: Any) -> None:
    result = json.dumps(Redactor(SECRETS).value(value), ensure_ascii=False)
    assert not [
        secret for secret in SECRETS if secret in result or json.dumps(secret, ensure_ascii=False)[1:-1] in result
    ]


@pytest.mark.parametrize("width", [64, 76])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_secrets_in_wrapped_base64_are_masked(width: int, end: bytes) -> None:
    secret = "Ab3-" * 30
    for before in range(1, 100):
        encoded = base64.b64encode(b"x" * before + secret.encode() + b" and more")
        lines = end.join(encoded[begin : begin + width] for begin in range(0, len(encoded), width)) + end
        result = Redactor([secret]).redact(lines)
        assert HIDDEN.encode() in result
        assert len(result) < len(lines) - 100
        for at in range(0, len(lines), 17):
            assert streamed(Redactor([secret]), lines, [at]) == result


def test_a_complete_line_is_released_even_if_a_secret_may_begin_at_its_end() -> None:
    redactor = Redactor(["done-and-secret"])
    core = base64.b64encode(b"done-and-secret")
    assert redactor.feed("stdout", b"it is done\n") == b"it is done\n"
    assert redactor.feed("stdout", core[:2] + b"\n") == core[:2] + b"\n"


def test_the_withheld_text_is_bounded() -> None:
    redactor = Redactor(["a" * 100_000, "ü" * 5_000])
    count = 0
    for _ in range(40):
        count += len(redactor.feed("stdout", b"a" * 10_000))
        assert len(redactor._streams["stdout"].data) < 16_384
    assert redactor.flush("stdout").strip(b"a") in (b"", HIDDEN.encode())


def test_streams_are_independent_and_short_values_are_not_masked() -> None:
    redactor = Redactor(["0123456789", "short", ""])
    assert redactor.feed("stdout", b"01234") == b""
    assert redactor.feed("stderr", b"56789\n") == b"56789\n"
    assert redactor.flush("stdout") == b"01234"
    assert redactor.text("so short") == "so short"
    assert Redactor().feed("stdout", b"0123456789") == b"0123456789"


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "GITHUB_TOKEN", "DB_PASS", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "DEPLOY_KEY", "token"]
)
def test_variable_names_that_look_secret_are_recognised(name: str) -> None:
    assert is_secret_variable(name)


@pytest.mark.parametrize("name", ["PATH", "HOME", "PWD", "LANG", "HTTPS_PROXY", "KEYBOARD", "TERM", "AUTHOR", "TZ"])
def test_other_variable_names_are_not_recognised(name: str) -> None:
    assert not is_secret_variable(name)
