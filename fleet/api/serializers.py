"""Base serializer and fields of every body and query: no unknown fields, and nothing that Postgres cannot store.

A field's `initial` is its example in the OpenAPI document (fleet.api.openapi.examples), and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from fleet import ids, values


class Strict(serializers.Serializer[Any]):
    """A serializer that rejects unknown fields by name, and lists the choices in the error for a wrong choice.

    `noun` in its context is what it calls a field: a field of a body by default, or a parameter of a query.
    """

    def get_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().get_fields()
        for field in fields.values():
            choice = getattr(field, "child", field)
            if isinstance(choice, serializers.ChoiceField):
                choices = ", ".join(map(str, choice.choices))
                choice.error_messages["invalid_choice"] = f'"{{input}}" is not a valid choice. Choose from: {choices}.'
        return fields

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(str(name) for name in data if name not in self.fields) if isinstance(data, Mapping) else []
        if not unknown:
            return super().to_internal_value(data)
        noun = self.context.get("noun", "field")
        alternatives = f"The {noun}s are: {', '.join(self.fields)}." if self.fields else "There are none here."
        error = ErrorDetail(f"Unknown {noun}. {alternatives}", code="unknown")
        problems: dict[str, Any] = {name[:100]: [error] for name in unknown[:20]}
        try:
            super().to_internal_value(data)
        except serializers.ValidationError as exc:
            problems |= exc.detail if isinstance(exc.detail, dict) else {}
        raise serializers.ValidationError(problems)


class Text(serializers.CharField):
    """Text without NUL, unpaired surrogates, or control characters other than tabs and line ends."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if any(ord(character) < 32 and character not in "\t\n\r" for character in text) or "\x7f" in text:
            raise serializers.ValidationError("Contains control characters.", code="control_characters")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise serializers.ValidationError("Contains an unpaired surrogate.", code="surrogate")
        return str(text)


class Id(serializers.CharField):
    """The text of an id of one kind, such as `ids.MISSION`."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.kind = kind
        super().__init__(**{"initial": ids.encode(kind, ids.EXAMPLE), **options})

    @property
    def pattern(self) -> str:
        """A regular expression (ECMA 262) for clients. Bodies are read by `ids.decode`, which accepts more."""
        return ids.pattern(self.kind)


class Json(serializers.JSONField):
    """Any JSON value that the fleet accepts (fleet/values.py), up to `max_bytes`."""

    def __init__(self, *, max_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self.max_bytes = max_bytes

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        try:
            values.check(value, max_bytes=self.max_bytes)
        except values.Unacceptable as error:
            raise serializers.ValidationError(error.sentence, code="unacceptable") from None
        return value
