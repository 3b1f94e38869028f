"""Builds HTML and SVG from elements, so that no text of a repository can become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias


class Markup(str):
    """A string that is already markup."""

    __slots__ = ()


Part: TypeAlias = "str | int | float | Iterable[Part] | None"
_VOID = frozenset({"meta", "br", "hr"})


def tag(name: str, /, *parts: Part, **attributes: str | float | bool | None) -> Markup:
    """An element. Parts are escaped unless they are Markup. In attribute names, `class_` is class and `_` a hyphen."""
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        words.append(word if value is True else f'{word}="{html.escape(_text(value))}"')
    opened = f"<{' '.join(words)}>"
    return Markup(opened if name in _VOID else f"{opened}{join(parts)}</{name}>")


def join(parts: Part) -> Markup:
    """The concatenated parts, escaped unless they are Markup."""
    if parts is None:
        return Markup("")
    if isinstance(parts, Markup):
        return parts
    if isinstance(parts, str | int | float):
        return Markup(html.escape(_text(parts)))
    return Markup("".join(join(part) for part in parts))


def _text(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
