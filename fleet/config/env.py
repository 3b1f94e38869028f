"""Typed readers of environment variables. An invalid value raises ImproperlyConfigured; it is never replaced."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")


class Environment:
    """Reads settings from a mapping, by default os.environ. An empty value counts as unset.

    `places`: where a value was written, for errors, such as "/home/me/.fleet/settings.env, line 3".
    """

    def __init__(
        self, values: Mapping[str, str] | None = None, *, places: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.values = os.environ if values is None else values
        self._places = places
        self.names: set[str] = set()  # read so far

    def text(self, name: str, default: str = "") -> str:
        self.names.add(name)
        return self.values.get(name, default).strip()

    def secret(self, name: str) -> str:
        """Return the content of the file that NAME_FILE names, or, if there is none or it is empty, the value of NAME."""
        if path := self.text(f"{name}_FILE"):
            try:
                content = Path(path).read_text().strip()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise ImproperlyConfigured(f"{name}_FILE: {path} cannot be read ({reason}).") from None
            if content:
                self.names.add(name)
                return content
        return self.text(name)

    def integer(self, name: str, default: int, *, minimum: int = 0) -> int:
        text = self.text(name)
        if not text:
            return default
        try:
            value = int(text)
        except ValueError:
            raise self._invalid(name, f"={text!r} is not a whole number") from None
        if value < minimum:
            raise self._invalid(name, f"={value} is too small; the minimum is {minimum}")
        return value

    def number(self, name: str, default: float, *, minimum: float = 0.0) -> float:
        text = self.text(name)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            raise self._invalid(name, f"={text!r} is not a number") from None
        if not minimum <= value < float("inf"):
            raise self._invalid(name, f"={text!r} is out of range; the minimum is {minimum}")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        text = self.text(name).lower()
        if not text:
            return default
        if text in {"1", "true", "yes", "on"}:
            return True
        if text in {"0", "false", "no", "off"}:
            return False
        raise self._invalid(name, f"={text!r} is neither yes nor no")

    def words(self, name: str, default: tuple[str, ...] = ()) -> list[str]:
        text = self.text(name)
        return [word.strip() for word in text.split(",") if word.strip()] if text else list(default)

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        if (value := self.text(name).lower() or default) not in choices:
            raise self._invalid(name, f"={value!r} is not one of: {', '.join(choices)}")
        return value

    def parsed(self, name: str, default: str, parse: Callable[[str], T]) -> T:
        """Return `parse(text)`. `parse` raises ValueError with the reason, which the error repeats after the name."""
        try:
            return parse(self.text(name) or default)
        except ValueError as error:
            raise self._invalid(name, f": {error}") from None

    def _invalid(self, name: str, reason: str) -> ImproperlyConfigured:
        place = f"{self._places[name]}: " if name in self._places else ""
        return ImproperlyConfigured(f"{place}{name}{reason}.")


def percentages(text: str) -> tuple[int, ...]:
    """Parse "25,50,75"; "none" is an empty list. For `Environment.parsed`."""
    words = [word.strip() for word in text.split(",") if word.strip() and word.strip() != "none"]
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 99 for word in words):
        raise ValueError(f"{text!r} is not a list of percentages from 1 to 99, such as 25,50,75")
    return tuple(map(int, words))
