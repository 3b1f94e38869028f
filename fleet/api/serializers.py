"""What every body and query of the API is held against: unknown fields are refused, and so is what Postgres cannot store.

A field's `initial` is its example in the OpenAPI document (fleet.api.examples); it is used for nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from fleet import ids, values


class Strict(serializers.Serializer[Any]):
    """Knows its fields, and refuses others by name; where one has choices, says which."""

    def get_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().get_fields()
        for field in fields.values():
            one = getattr(field, "child", field)
            if isinstance(one, serializers.ChoiceField):
                known = ", ".join(map(str, one.choices))
                one.error_messages["invalid_choice"] = f'"{{input}}" is not a valid choice. Choose from: {known}.'
        return fields

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(str(name) for name in data if name not in self.fields) if isinstance(data, Mapping) else []
        if not unknown:
            return super().to_internal_value(data)
        known = ", ".join(self.fields) or "none"
        said = ErrorDetail(f"Unknown field. The fields are: {known}.", code="unknown")
        faults: dict[str, Any] = {name[:100]: [said] for name in unknown[:20]}
        try:
            super().to_internal_value(data)
        except serializers.ValidationError as fault:
            faults |= fault.detail if isinstance(fault.detail, dict) else {}
        raise serializers.ValidationError(faults)


class Text(serializers.CharField):
    """Text as people write it: no NUL, and no control characters but tabs and line ends."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if any(ord(character) < 32 and character not in "\t\n\r" for character in text) or "\x7f" in text:
            raise serializers.ValidationError("It holds control characters.", code="control_characters")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise serializers.ValidationError("It holds half a character.", code="surrogate")
        return str(text)


class Id(serializers.CharField):
    """An id of one kind (`ids.MISSION`), as a text."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.kind = kind
        super().__init__(**{"initial": ids.encode(kind, ids.EXAMPLE), **options})

    @property
    def pattern(self) -> str:
        """How one looks (ECMA 262), for clients; what a body says is read by `ids.decode`, which is more patient."""
        return ids.pattern(self.kind)


class Json(serializers.JSONField):
    """Any JSON value that the fleet accepts (fleet/values.py), of at most so many bytes."""

    def __init__(self, *, most: int, **options: Any) -> None:
        super().__init__(**options)
        self.most = most

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        try:
            values.check(value, max_bytes=self.most)
        except values.Unacceptable as fault:
            raise serializers.ValidationError(fault.sentence, code="unacceptable") from None
        return value
