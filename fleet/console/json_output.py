"""Writes JSON incrementally, so that a document of any length needs little memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping


def write_object(
    write: Callable[[str], object], head: Mapping[str, object], lists: Mapping[str, Iterable[object]]
) -> None:
    """Write one JSON object: the keys of `head`, then those of `lists`, with one item per line as they arrive."""
    write(json.dumps(dict(head), indent=2).removesuffix("\n}") if head else "{")
    separator = "," if head else ""
    for name, items in lists.items():
        write(f"{separator}\n  {json.dumps(name)}: ")
        write_array(write, items, indent=4)
        separator = ","
    write("\n}\n")


def write_array(write: Callable[[str], object], items: Iterable[object], *, indent: int = 2) -> None:
    """Write one JSON array, without a newline after it."""
    write("[")
    separator = ""
    for item in items:
        write(f"{separator}\n{' ' * indent}{json.dumps(item)}")
        separator = ","
    write(f"\n{' ' * (indent - 2)}]" if separator else "]")
