"""One definition of acceptable JSON values: they are stored and returned unchanged; others are refused with their
place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet import values

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-values.MAX_INTEGER, values.MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
acceptable = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)
# Mostly values that must be refused.
any_value = st.recursive(
    scalars | st.text(max_size=3) | st.floats() | st.integers() | st.sampled_from(["a\0", "\ud800", 2**64, -(2**64)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(acceptable)
def test_acceptable_values_are_accepted_as_data_and_as_text(value: Any) -> None:
    values.check(value)
    assert values.parse(values.encode(value)) == value
    assert values.parse(json.dumps(value).encode()) == value


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(acceptable | any_value)
def test_accepted_values_are_stored_and_returned_unchanged(value: Any) -> None:
    try:
        values.check(value)
    except values.Unacceptable:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [values.encode(value)])
        stored_value = json.loads(cursor.fetchone()[0])
    assert stored_value == value
    values.check(stored_value)  # a stored value can be passed on
    assert json.loads(json.dumps(stored_value)) == value


@pytest.mark.parametrize(
    "text, pointer, reason",
    [
        ("[" * 41 + "]" * 41, "/0" * 40, "is nested more than 40 levels deep"),
        ("[" * 960 + "]" * 960, "/0" * 40, "is nested more than 40 levels deep"),
        ("[" * 100_000 + "]" * 100_000, "/0" * 40, "is nested more than 40 levels deep"),
        ('{"a,]": {"b": [1, ' + "[" * 5_000, "/a,]/b/1" + "/0" * 37, "is nested more than 40 levels deep"),
        ('{"a": [1, {"b/c": NaN}]}', "/a/1/b~1c", "is not a finite number"),
        ("[1e999]", "/0", "is not a finite number"),
        ("9223372036854775809", "", "is an integer outside ±2⁶³"),
        ('{"n": -' + "9" * 100_000 + "}", "/n", "is an integer outside ±2⁶³"),
        (r'["a\u0000"]', "/0", "contains a NUL character"),
        (r'[[], "\ud83d"]', "/1", "contains an unpaired surrogate"),
        (r'{"x": {"\ud83d": 1}}', "/x", "has a key that contains an unpaired surrogate"),
        ('["' + "x" * 2_000 + '"]', "", "is larger than 2,000 bytes"),
    ],
)
def test_unacceptable_values_are_refused_with_their_place(text: str, pointer: str, reason: str) -> None:
    limit = 2_000 if "larger" in reason else 1_000_000
    with pytest.raises(values.Unacceptable) as excinfo:
        values.parse(text.encode(), max_bytes=limit)
    assert (excinfo.value.pointer, excinfo.value.reason) == (pointer, reason)
    assert str(excinfo.value) == (f"the value at {pointer} {reason}" if pointer else f"the value {reason}")


def test_values_at_the_limits_are_accepted() -> None:
    for value in (nested(40), values.MAX_INTEGER, -values.MAX_INTEGER, 1.7976931348623157e308, "\U0001f600"):
        values.check(value)
        assert values.parse(values.encode(value)) == value


def test_invalid_json_is_a_value_error_and_python_types_are_named() -> None:
    for text in (b"", b"{", b"\xff", b"[1] 2"):
        with pytest.raises(ValueError):
            values.parse(text)
    for value, reason in (
        (object(), "is of the type object"),
        ({1: 2}, "has the key '1'"),
        (b"x", "of the type bytes"),
    ):
        with pytest.raises(values.Unacceptable, match=reason):
            values.check({"a": value})
