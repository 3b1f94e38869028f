"""Secrets are recognised by their names and shapes; everything else stays readable."""

from __future__ import annotations

import json

import pytest

from fleet.access import operations, tokens
from fleet.access.models import Role
from fleet.observability import redaction

KEY = "flk_0a1b2c3d_" + "Zx9_-" * 8 + "abc"
LEASE = "srt_01hzzzzzzzzzzzzzzzzzzzzzzz" + ".3." + "Qw7-" * 10
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoiNyJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "name",
    [
        "password", "new_password", "PASSWORD2", "passwd", "pwd", "client_secret", "Authorization", "Cookie", "Set-Cookie",
        "api_key", "X-Api-Key", "privateKey", "signing_key", "csrfmiddlewaretoken", "session_id", "sessionid", "token",
        "refresh_token", "accessToken", "credentials", "secrets", "ticket",
    ],
)  # fmt: skip
def test_values_with_a_secret_name_are_redacted(name: str) -> None:
    assert redaction.clean({"deep": [{name: "hunter2"}]}) == {"deep": [{name: "[redacted]"}]}


@pytest.mark.parametrize(
    "value",
    [
        {"tokens": 2_000_000, "max_tokens": 5}, {"key": "lint", "keys": ["a", "b"]}, {"code": "not_found"},
        {"access": "read", "refresh": True}, {"password": None, "token": ""}, {"passed": 3, "author": "Ann"},
        {"url": "https://example.org/a?b=c", "mail": "ann@example.org"}, {"text": "the secret of success is a token"},
    ],
)  # fmt: skip
def test_other_values_are_unchanged(value: dict[str, object]) -> None:
    assert redaction.clean(value) == value


@pytest.mark.parametrize(
    "text, left",
    [
        (KEY, "flk_0a1b2c3d_[redacted]"),
        ("tkt_" + "Ab9_-" * 6, "tkt_[redacted]"),
        (LEASE, LEASE.rpartition(".")[0] + ".[redacted]"),
        (JWT, "[redacted]"),
        (PEM, "[redacted]"),
        ("postgresql://fleet:hunter2@db:5432/fleet", "postgresql://fleet:[redacted]@db:5432/fleet"),
        ("redis://:hunter2@cache/0", "redis://:[redacted]@cache/0"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer [redacted]"),
        ("user=ann password=hunter2 x=1", "user=ann password=[redacted] x=1"),
        ('{"api_key": "hunter2", "n": 1}', '{"api_key": "[redacted]", "n": 1}'),
        ("ghp_abcdefghijklmnopqrstuv", "[redacted]"),
    ],
)
def test_texts_with_the_shape_of_a_secret_are_redacted(text: str, left: str) -> None:
    assert redaction.text(f"before {text} after") == f"before {left} after"
    assert redaction.clean({"note": [text]}) == {"note": [left]}


@pytest.mark.django_db
def test_the_fleets_own_keys_and_tokens_have_these_shapes() -> None:
    user = operations.create_user(name="ann", role=Role.USER)
    key = operations.create_key(user=user, name="ci", scopes=["read"]).text
    pair = tokens.begin(user=user)
    for secret in (key, pair.access, pair.refresh):
        assert secret.rpartition("_")[2][-16:] not in redaction.text(f"it was {secret}.")
        assert "[redacted]" in redaction.text(f"it was {secret}.")


def test_control_characters_are_escaped() -> None:
    assert (
        redaction.text("a\x00b\x1b[31mc\rd\u202ee\ud800f\ng\x9bh")
        == r"a\u0000b\u001b[31mc\u000dd\u202ee\ud800f" + "\ng\\u009bh"
    )


def test_a_document_is_json_of_bounded_size() -> None:
    deep: dict[str, object] = {}
    for _ in range(50):
        deep = {"in": deep}
    for value in (deep, ["x" * 5_000] * 500, {"nan": float("nan"), "inf": float("inf"), "bytes": b"1234"}):
        document = redaction.document(value)
        json.loads(document, parse_constant=lambda name: pytest.fail(name))
        assert len(document) <= redaction.MAX_BYTES
